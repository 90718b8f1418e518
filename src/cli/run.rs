//! Carries out the commands that ask a cluster, and writes their answers where they belong: answers on
//! standard output, progress and what went wrong on standard error.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::answer::{self, Answer, Exit, Failure, NodeAnswer};
use super::client_options::{Output, Settings};
use super::command::{Change, Command};
use super::lang::Lang;
use super::{bench, json, selftest, text};
use crate::client::{Client, Error, Node, Options};
use crate::rpc::Tls;

/// Waiting longer than this is explained.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session with a cluster: who asks, and for whom the answers are.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) client: Client,
    pub(crate) tls: Arc<Tls>,
    pub(crate) settings: Settings,
}

impl Asker {
    /// Reads the certificates; connects to nobody yet.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn new(settings: Settings) -> Result<Asker, Failure> {
        let tls = Tls::load(&settings.certs, None).map_err(|error| Failure {
            exit: Exit::Untrusted,
            ..Failure::new("certificates", error.to_string())
        })?;
        // A shell may outlive its certificates. Without the thread they stay as they are.
        if let Err(error) = tls.watch(&settings.certs, None) {
            tracing::warn!(%error, "certificates will not be read again");
        }
        let client = Client::new(tls.clone(), options(&settings));
        Ok(Asker { client, tls, settings })
    }

    /// Carries out one command. A long wait is explained on standard error.
    pub(crate) async fn carry_out(&self, command: &Command, mut emit: impl FnMut(Answer)) {
        let done = self.ask(command, &mut emit);
        let lang = self.settings.lang;
        let doing = match command {
            Command::Bench(_) => lang.pick("measuring", "midiendo"),
            _ => lang.pick("still at it", "sigo en ello"),
        };
        if let Err(error) = explained(done, doing, || self.client.trouble()).await {
            emit(Answer::Failed(error.into()));
        }
    }

    async fn ask(&self, command: &Command, emit: &mut impl FnMut(Answer)) -> Result<(), Error> {
        let client = &self.client;
        match command.clone() {
            Command::Put { key, value, first } => {
                let value = value.read().map_err(|why| Error::refused("io", why))?;
                self.prefer(first).await?;
                let written = client.put(key.clone(), value.clone()).await?;
                emit(Answer::Written { key, write: answer::Write::Put(value), written });
            }
            Command::Get { key, local, first } => {
                self.prefer(first).await?;
                let reply = client.get(key.clone(), local).await?;
                emit(Answer::Read { key, reply });
            }
            Command::Delete { key } => {
                let written = client.delete(key.clone()).await?;
                emit(Answer::Written { key, write: answer::Write::Delete, written });
            }
            Command::Cas { key, expected, value } => {
                let written = client.cas(key.clone(), expected, value.clone()).await?;
                emit(Answer::Written { key, write: answer::Write::Cas(value), written });
            }
            Command::Range { from, to, limit } => {
                let mut pages = client.pages(from, to, limit);
                while let Some(page) = pages.next().await {
                    let page = page?;
                    let (term, leader) = (page.from.term, page.from.leader);
                    let (entries, index) = (page.entries, page.index);
                    emit(Answer::Entries { entries, index, term, leader });
                }
            }
            Command::Status { node } => emit(Answer::Nodes(self.nodes(node).await?)),
            Command::Metrics { node } => {
                let at = client.node(&node).await?.address;
                emit(Answer::Metrics(client.metrics(&at).await?));
            }
            Command::Replication { node, from, from_key, limit } => {
                let at = client.node(&node).await?.address;
                emit(Answer::Replication(client.replication(&at, from, from_key, limit).await?));
            }
            Command::Stop { node } => {
                let (name, address) = self.seat(&node).await?;
                client.stop(&address).await?;
                emit(Answer::Stopped { name });
            }
            Command::Members => emit(Answer::Members(client.members_of_leader().await?)),
            Command::Change(change) => emit(Answer::Changed(match change {
                Change::Add { name, address } => client.add_member(&name, &address).await?,
                Change::Remove { name } => client.remove_member(&name).await?,
                Change::Promote { name } => client.promote_member(&name).await?,
            })),
            Command::Transfer { node } => {
                let (name, _) = self.seat(&node).await?;
                emit(Answer::Transferred(client.transfer(&name).await?));
            }
            Command::Snapshot { node } => {
                let at = client.node(&node).await?.address;
                emit(Answer::Snapshot(client.take_snapshot(&at).await?));
            }
            Command::Test { wait } => {
                let wait = wait.unwrap_or(self.settings.timeout);
                client.ready(Instant::now() + wait).await?;
                selftest::run(client, self.settings.lang, emit).await;
            }
            Command::Bench(wanted) => {
                emit(match bench::run(&wanted, &self.tls, &options(&self.settings)).await {
                    Ok(report) => Answer::Measured(report),
                    Err(failure) => Answer::Failed(failure),
                });
            }
            // The others ask no cluster.
            Command::Idle | Command::Shell | Command::Local(_) | Command::Certs(_) => {}
        }
        Ok(())
    }

    /// The name and the address of the node that a person calls so.
    async fn seat(&self, called: &str) -> Result<(String, String), Error> {
        let node = self.client.node(called).await?;
        let name = match node.name {
            Some(name) => name,
            None => self.client.status(&node.address).await?.name,
        };
        Ok((name, node.address))
    }

    async fn prefer(&self, first: Option<String>) -> Result<(), Error> {
        if let Some(first) = first {
            let node = self.client.node(&first).await?;
            self.client.prefer(&node.address);
        }
        Ok(())
    }

    async fn nodes(&self, node: Option<String>) -> Result<Vec<NodeAnswer>, Error> {
        let Some(called) = node else {
            let all = self.client.statuses().await;
            let answer = |(node, status): (Node, Result<_, Error>)| NodeAnswer {
                endpoint: node.address,
                name: node.name,
                status: status.map_err(Failure::from),
            };
            return Ok(all.into_iter().map(answer).collect());
        };
        let node = self.client.node(&called).await?;
        let status = self.client.status(&node.address).await?;
        Ok(vec![NodeAnswer { endpoint: node.address, name: node.name, status: Ok(status) }])
    }
}

/// The client's options among the settings.
fn options(settings: &Settings) -> Options {
    Options {
        endpoints: settings.endpoints.clone(),
        timeout: settings.timeout,
        redirect: settings.redirect,
    }
}

/// Waits for `work`; every two seconds says on standard error that it still does.
pub(crate) async fn patiently<T>(work: impl Future<Output = T>, lang: Lang) -> T {
    explained(work, lang.pick("still at it", "sigo en ello"), || None).await
}

/// The same, with what is being done, and what is in the way.
async fn explained<T>(
    work: impl Future<Output = T>,
    doing: &str,
    trouble: impl Fn() -> Option<String>,
) -> T {
    tokio::pin!(work);
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(begun + PATIENCE, PATIENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let seconds = begun.elapsed().as_secs();
                let why = trouble().map(|why| format!(": {why}")).unwrap_or_default();
                eprintln!("{doing} ({seconds} s){why}");
            }
        }
    }
}

/// Writes answers to standard output as they come.
#[derive(Debug)]
pub(crate) struct Teller {
    output: Output,
    lang: Lang,
    exit: Exit,
    broken: Option<io::Error>,
}

impl Teller {
    pub(crate) fn new(output: Output, lang: Lang) -> Teller {
        Teller { output, lang, exit: Exit::Done, broken: None }
    }

    /// Writes one answer, and flushes it: somebody may be waiting at the other end of a pipe.
    pub(crate) fn tell(&mut self, answer: &Answer) {
        self.exit = self.exit.max(answer.exit());
        let said = match self.output {
            Output::Text => text::lines(answer, self.lang),
            Output::Json => json::lines(answer).iter().map(|object| object.line() + "\n").collect(),
        };
        self.say(&said);
        if let (Output::Text, Some(failure)) = (self.output, answer.failure()) {
            eprint!("{}", text::failure(&failure, self.lang));
        }
    }

    /// Writes a text as it is.
    pub(crate) fn say(&mut self, said: &str) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(said.as_bytes()).and_then(|()| out.flush()) {
            self.broken.get_or_insert(error);
        }
    }

    /// The exit status so far. Standard output that nobody reads any more (`| head`) is no failure.
    pub(crate) fn exit(&self) -> Exit {
        match &self.broken {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("error: cannot write to standard output: {error}");
                self.exit.max(Exit::Failed)
            }
            _ => self.exit,
        }
    }
}
