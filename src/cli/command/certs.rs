//! The words of `certs`.

use std::path::PathBuf;

use super::{Command, Judge, Words, values};
use crate::certs::{Validity, Which, Whose};
use crate::cli::certs::{
    CertsCommand, Change, ChangeOptions, InitOptions, IssueOptions, K8S_NODES, ServiceNames,
    ShowOptions, Step,
};

const VERBS: &str = "init, issue, show, renew, revoke and rotate-ca";

/// The verbs of `certs`. What their values mean is judged by [`crate::cli::certs`], which reports all of
/// them at once too.
pub(super) fn read(judge: &mut Judge<'_>, words: &mut Words) -> Option<Command> {
    let verb = words.text();
    let path = |text: &str| Ok(PathBuf::from(text));
    let text = |text: &str| Ok(text.to_owned());
    let init = InitOptions::default();
    let names = |judge: &mut Judge<'_>| ServiceNames {
        namespace: judge.option("namespace", text).unwrap_or(init.names.namespace.clone()),
        service: judge.option("service", text).unwrap_or(init.names.service.clone()),
        client_service: judge
            .option("client_service", text)
            .unwrap_or(init.names.client_service.clone()),
    };
    let nodes = |judge: &mut Judge<'_>, default| {
        let most = u64::from(crate::cli::certs::problems::MAX_NODES);
        let number = judge.option("nodes", |text| values::number(text, 1, most));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let command = match verb.as_deref() {
        Some("init") => CertsCommand::Init(InitOptions {
            k8s: judge.flag("k8s"),
            out: judge.option("out", path).unwrap_or(init.out.clone()),
            cluster: judge.option("cluster", text).unwrap_or(init.cluster.clone()),
            nodes: nodes(judge, if judge.typed("k8s") { K8S_NODES } else { init.nodes }),
            dns: judge.list("dns"),
            ips: judge.list("ip"),
            names: names(judge),
            days: count(judge, "days", init.days),
            ca_days: count(judge, "ca_days", init.ca_days),
            force: judge.flag("force"),
        }),
        Some("issue") => {
            let (Some(role), Some(name)) = (words.text(), words.text()) else {
                judge.problem("certs issue needs node, client, admin or monitor, and a NAME");
                return None;
            };
            let defaults = IssueOptions::new(&role, &name);
            CertsCommand::Issue(IssueOptions {
                out: judge.option("out", path).unwrap_or(defaults.out),
                cluster: judge.option("cluster", text),
                dns: judge.list("dns"),
                ips: judge.list("ip"),
                names: names(judge),
                days: count(judge, "days", defaults.days),
                force: judge.flag("force"),
                role,
                name,
            })
        }
        Some("show") => {
            let paths: Vec<_> = std::iter::from_fn(|| words.next()).map(PathBuf::from).collect();
            if paths.is_empty() {
                judge.problem("certs show needs files or directories");
            }
            CertsCommand::Show(ShowOptions { paths })
        }
        Some(verb @ ("renew" | "revoke" | "rotate-ca")) => {
            let out = judge.option("out", path).unwrap_or(init.out.clone());
            let change = match verb {
                "renew" => renew(judge, words)?,
                "revoke" => revoke(judge, words)?,
                _ => rotate_ca(judge, words)?,
            };
            CertsCommand::Change(ChangeOptions { out, change })
        }
        Some(other) => {
            judge.problem(format!("certs has no verb '{other}'; it has {VERBS}"));
            return None;
        }
        None => {
            judge.problem(format!("certs needs a verb: {VERBS}"));
            return None;
        }
    };
    for problem in command.problems() {
        judge.problem(problem);
    }
    Some(Command::Certs(command))
}

/// Days; zero and too many are judged by whoever counts them.
fn count(judge: &mut Judge<'_>, name: &'static str, default: u32) -> u32 {
    let number = judge.option(name, |text| values::number(text, 0, u64::from(u32::MAX)));
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}

fn renew(judge: &mut Judge<'_>, words: &mut Words) -> Option<Change> {
    let names: Vec<String> = std::iter::from_fn(|| words.text()).collect();
    let all = judge.flag("all");
    let within = judge.option("within", |text| values::number(text, 0, 36_500));
    let within = within.and_then(|days| u32::try_from(days).ok());
    let days = count(judge, "days", Validity::LEAF_DAYS);
    let whose = match (names.is_empty(), all) {
        (true, false) if within.is_none() => {
            judge.problem("certs renew needs NAMEs, or --all, or --within DAYS");
            return None;
        }
        (false, true) => {
            judge.problem("certs renew takes NAMEs or --all, not both");
            return None;
        }
        (true, _) => Whose::All,
        (false, _) => Whose::Names(names),
    };
    Some(Change::Renew { whose, within, days })
}

fn revoke(judge: &mut Judge<'_>, words: &mut Words) -> Option<Change> {
    let file = judge.option("certificate", |text| Ok(PathBuf::from(text)));
    match (words.text(), file) {
        (Some(name), None) => Some(Change::Revoke(Which::Of(name))),
        (None, Some(file)) => Some(Change::Revoke(Which::File(file))),
        _ => {
            judge.problem("certs revoke needs a NAME, or --certificate FILE");
            words.skip();
            None
        }
    }
}

fn rotate_ca(judge: &mut Judge<'_>, words: &mut Words) -> Option<Change> {
    let cluster = judge.option("cluster", |text| Ok(text.to_owned()));
    let step = match words.text().as_deref() {
        Some("trust") => {
            Step::Trust { cluster, ca_days: count(judge, "ca_days", Validity::CA_DAYS) }
        }
        Some("reissue") => Step::Reissue { days: count(judge, "days", Validity::LEAF_DAYS) },
        Some("drop") => Step::Drop,
        _ => {
            judge.problem("certs rotate-ca needs a step: trust, then reissue, then drop");
            words.skip();
            return None;
        }
    };
    Some(Change::RotateCa(step))
}
