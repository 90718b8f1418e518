//! Clients: each has a session and one operation at a time, asks any node, repeats what was not
//! answered with the same serial, and sometimes gives up. What they did and saw is judged at the end.

use balsa::codec::command::encode_command;
use balsa::kv::{Applied, Command, Operation, Outcome, Write};
use balsa::raft::{Index, NodeId, ReadOutcome, ReadToken, Refusal};
use bytes::Bytes;
use rand::Rng;

use super::linearize::{self, Answer, History, Input, Reply, Seen, Time};
use super::world::{Event, Life, SeatId, World, say};

/// Keys that clients write to.
const KEYS: u64 = 8;

/// What a client asks a node for.
#[derive(Clone, Debug)]
pub struct Request {
    pub client: usize,
    /// Numbers the client's operations.
    pub operation: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Command(Bytes),
    Read(Bytes),
}

/// What a node answers.
#[derive(Clone, Debug)]
pub enum Said {
    Applied(Applied),
    Read {
        seen: Option<Seen>,
        revision: u64,
    },
    /// Ask another one.
    Elsewhere(Option<NodeId>),
    /// Perhaps it happens, perhaps not.
    Unknown,
}

/// An operation under way.
struct Open {
    request: Request,
    /// Its place in the history; none for opening a session.
    recorded: Option<usize>,
}

pub struct Client {
    number: usize,
    session: Option<u64>,
    serial: u64,
    operations: u64,
    attempts: u64,
    open: Option<Open>,
    seat: usize,
}

/// What all clients did.
#[derive(Default)]
pub struct Story {
    pub history: History,
}

impl Client {
    pub fn new(number: usize) -> Client {
        Client {
            number,
            session: None,
            serial: 0,
            operations: 0,
            attempts: 0,
            open: None,
            seat: number,
        }
    }

    /// Whether an operation waits for its answer.
    pub fn is_waiting(&self) -> bool {
        self.open.is_some()
    }
}

impl World {
    /// A client begins something, or sends what it has begun once more.
    pub fn client_acts(&mut self, number: usize) {
        if self.clients[number].open.is_none() {
            if self.silent {
                return;
            }
            self.begin(number);
        } else {
            self.counts.retried += 1;
        }
        let client = &mut self.clients[number];
        client.attempts += 1;
        let attempt = client.attempts;
        let request = client.open.as_ref().expect("just begun").request.clone();
        let seat = SeatId(client.seat % self.seats.len());
        if !self.loses() {
            let delay = self.travel();
            self.after(delay, Event::Request(request, seat));
        }
        self.after(300, Event::ClientTimeout(number, attempt));
    }

    fn begin(&mut self, number: usize) {
        let key = Bytes::from(format!("k{}", self.rng.random_range(0..KEYS)));
        let choice = self.rng.random_range(0..10);
        let call = Time(self.moment());
        let client = &mut self.clients[number];
        client.operations += 1;
        let operation = client.operations;
        let value = Bytes::from(format!("{number}.{operation}"));
        let (what, input) = match client.session {
            None => (What::Command(encode_command(&Command::OpenSession)), None),
            Some(_) if choice < 4 => (What::Read(key.clone()), Some(Input::Get)),
            Some(session) => {
                client.serial += 1;
                let (write, input) = match choice {
                    4..8 => (
                        Operation::Put { key: key.clone(), value: value.clone() },
                        Input::Put(value),
                    ),
                    8 => (Operation::Delete { key: key.clone() }, Input::Delete),
                    _ => (
                        Operation::Cas { key: key.clone(), expected: None, value: value.clone() },
                        Input::Cas { expected: None, value },
                    ),
                };
                let write = Write {
                    session,
                    serial: client.serial,
                    answered_below: client.serial,
                    operation: write,
                };
                (What::Command(encode_command(&Command::Write(write))), Some(input))
            }
        };
        let request = Request { client: number, operation, what };
        let recorded = input.map(|input| {
            let client = u32::try_from(number).expect("few clients");
            let operation = linearize::Operation { client, key, call, input, reply: None };
            self.story.history.operations.push(operation);
            self.story.history.operations.len() - 1
        });
        self.clients[number].open = Some(Open { request, recorded });
    }

    /// Reads every key once, for the judge of the history.
    pub fn read_all_keys(&mut self, life: Life) {
        let view = self.raft_mut(life).expect("it leads").store.view();
        for key in (0..KEYS).map(|key| Bytes::from(format!("k{key}"))) {
            let (call, at) = (Time(self.moment()), Time(self.moment()));
            let seen = view
                .get(&key)
                .map(|found| Seen { value: found.value.clone(), mod_revision: found.mod_revision });
            let answer = Answer::Read { seen, revision: view.revision() };
            let (client, input) = (u32::MAX, Input::Get);
            let reply = Some(Reply { at, answer });
            let operation = linearize::Operation { client, key, call, input, reply };
            self.story.history.operations.push(operation);
        }
    }

    /// No answer came in time.
    pub fn client_timed_out(&mut self, number: usize, attempt: u64) {
        let seats = self.seats.len();
        let gives_up = !self.calm && self.rng.random_bool(0.05);
        let client = &mut self.clients[number];
        if client.attempts != attempt || client.open.is_none() {
            return;
        }
        client.seat = (client.seat + 1) % seats;
        if gives_up {
            // It may still happen; nothing more is said in this session.
            client.open = None;
            client.session = None;
            client.serial = 0;
        }
        self.after(1, Event::Client(number));
    }

    /// A request reaches a seat.
    pub fn request_arrives(&mut self, request: Request, seat: SeatId) {
        let Some(life) = self.seats[seat.0].at else { return };
        let Some(core) = self.core(life) else {
            return self.says(life, request, Said::Elsewhere(None));
        };
        let _ = core;
        let raft = self.raft_mut(life).expect("it has a core");
        match &request.what {
            What::Command(bytes) => {
                let (result, effects) = raft.core.propose(vec![bytes.clone()]);
                match result {
                    Ok(at) => {
                        raft.proposals.insert(at.index, (at.term, request));
                    }
                    Err(refusal) => self.refuses(life, request, refusal),
                }
                self.carry_out(life, effects);
            }
            What::Read(_) => {
                raft.next_read += 1;
                let token = raft.next_read;
                raft.reads.insert(token, request);
                self.input(life, |core| core.read_index(ReadToken(token)));
            }
        }
    }

    fn refuses(&mut self, life: Life, request: Request, refusal: Refusal) {
        let hint = match refusal {
            Refusal::NotLeader { leader } => leader,
            Refusal::Transferring { to } => Some(to),
            Refusal::Busy | Refusal::NoSpace => None,
        };
        self.says(life, request, Said::Elsewhere(hint));
    }

    /// A read's index is confirmed, or not.
    pub fn read_judged(&mut self, life: Life, outcome: ReadOutcome) {
        let raft = self.raft_mut(life).expect("it just acted");
        let request = raft.reads.remove(&outcome.token.0).expect("a read is answered once (C5)");
        match outcome.result {
            Ok(index) => {
                raft.parked.push((index, request));
                self.answer_parked(life);
            }
            Err(refusal) => self.refuses(life, request, refusal),
        }
    }

    /// Answers the reads whose index is applied.
    pub fn answer_parked(&mut self, life: Life) {
        let Some(raft) = self.raft_mut(life) else { return };
        let applied = raft.store.applied();
        let parked = std::mem::take(&mut raft.parked);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|(index, _): &(Index, _)| *index <= applied);
        raft.parked = waiting;
        let view = raft.store.view();
        for (_, request) in ready {
            let What::Read(key) = &request.what else { continue };
            let seen = view
                .get(key)
                .map(|found| Seen { value: found.value.clone(), mod_revision: found.mod_revision });
            let said = Said::Read { seen, revision: view.revision() };
            self.says(life, request, said);
        }
    }

    /// What was proposed and is not committed has an unknown outcome (C3).
    pub fn leadership_lost(&mut self, life: Life) {
        let raft = self.raft_mut(life).expect("it just acted");
        for (_, (_, request)) in std::mem::take(&mut raft.proposals) {
            self.says(life, request, Said::Unknown);
        }
    }

    /// A node answers a client.
    pub fn says(&mut self, _life: Life, request: Request, said: Said) {
        if !self.loses() {
            let delay = self.travel();
            self.after(delay, Event::Reply(request, said));
        }
    }

    /// An answer reaches its client, perhaps long after the client has stopped to wait for it.
    pub fn reply_arrives(&mut self, request: &Request, said: Said) {
        let at = Time(self.moment());
        let hint = match &said {
            Said::Elsewhere(Some(id)) => self.seats.iter().position(|seat| {
                seat.at.and_then(|life| self.process(life)).is_some_and(|p| p.id == *id)
            }),
            _ => None,
        };
        let (pause, step) = (self.rng.random_range(1..60), self.rng.random_range(1..4));
        let client = &mut self.clients[request.client];
        let Some(open) = client.open.take_if(|open| open.request.operation == request.operation)
        else {
            return;
        };
        let answer = match said {
            Said::Elsewhere(_) | Said::Unknown => {
                client.seat = hint.unwrap_or(client.seat + step);
                client.open = Some(open);
                // The next attempt is this one's, not that of the clock.
                client.attempts += 1;
                return self.after(pause, Event::Client(request.client));
            }
            Said::Applied(Applied { outcome: Outcome::Session { session }, .. }) => {
                client.session = Some(session);
                client.serial = 0;
                None
            }
            Said::Applied(applied) => match applied.outcome {
                Outcome::Written { revision, succeeded } => {
                    let session = client.session.expect("it wrote in one");
                    let first = self.oracle.answer(session, client.serial);
                    assert_eq!(first, Some(&applied), "S18: the answer is the first one's");
                    self.counts.written += 1;
                    Some(Answer::Written { succeeded, revision })
                }
                other => panic!("client {} is told {other:?}", client.number),
            },
            Said::Read { seen, revision } => Some(Answer::Read { seen, revision }),
        };
        client.attempts += 1;
        self.counts.answered += 1;
        if let (Some(recorded), Some(answer)) = (open.recorded, answer) {
            say!(self, "client {} is answered {answer:?}", request.client);
            self.story.history.operations[recorded].reply = Some(Reply { at, answer });
        }
        self.after(pause, Event::Client(request.client));
    }
}
