//! How a process comes up: founding, and being taken in.

use balsa::raft::founding::effects::RecordToken;
use balsa::raft::founding::{
    AskRound, Asked, Effects, Founding, Letter, Me, Outgoing, Reply, Seed,
};
use balsa::raft::{Index, Persist, PersistToken};
use balsa::storage::{LogStore, MemoryLog};
use rand::Rng;

use super::process::Process;
use super::world::{DirId, Event, Life, SeatId, World, say};

impl World {
    /// Starts what is on a seat's volume, unless it runs.
    pub fn start_seat(&mut self, seat: SeatId) {
        let Some(dir) = self.seats[seat.0].dir else { return };
        let runs = self.lives.iter().flatten().any(|process| process.dir == dir);
        if !runs && !self.dirs[dir.0].lost {
            self.start(dir);
        }
    }

    /// Starts a process over a directory; it takes over the seat's address.
    pub fn start(&mut self, dir: DirId) -> Life {
        let life = Life(self.lives.len());
        let seeds = self.seats.iter().take(self.seeds);
        let seeds = seeds.map(|seat| Seed { name: seat.name.clone(), address: seat.name.clone() });
        let seeds = seeds.collect();
        let (random, lot) = (self.rng.random(), self.rng.random());
        let directory = &mut self.dirs[dir.0];
        directory.boot = directory.boot.next(lot);
        let name = self.seats[directory.seat.0].name.clone();
        let me = Me { id: directory.id, boot: directory.boot, address: name.clone(), name, seeds };
        let founding = Founding::new(me, directory.record.clone(), random);
        let process = Process {
            seat: directory.seat,
            dir,
            id: directory.id,
            boot: directory.boot,
            founding,
            cluster: directory.cluster,
            records: std::collections::VecDeque::new(),
            record_written: RecordToken(0),
            letters: Vec::new(),
            raft: None,
            stopping: None,
        };
        let (seat, member) = (process.seat, directory.cluster.is_some());
        say!(self, "{life:?} starts in {seat:?}, node {}, boot {}", process.id, process.boot);
        let founded = process.founding.founded();
        self.lives.push(Some(process));
        self.seats[seat.0].at = Some(life);
        let delay = self.rng.random_range(0..10);
        self.after(delay, Event::Tick(life));
        if founded.is_some() {
            self.enter(life);
        } else if member {
            self.start_core(life);
        }
        life
    }

    /// Gives a founding one input and carries out what it causes.
    pub fn found(
        &mut self,
        life: Life,
        answer_to: Option<Life>,
        input: impl FnOnce(&mut Founding) -> Effects,
    ) {
        let Some(process) = self.process_mut(life) else { return };
        let effects = input(&mut process.founding);
        let Effects { persist, reply, send_now, send_after_persist, ask, founded, waiting: _ } =
            effects;
        if let Some(persist) = persist {
            process.records.push_back((persist.token, persist.record));
            let delay = self.rng.random_range(1..20);
            self.after(delay, Event::RecordWritten(life));
        }
        let Some(process) = self.process_mut(life) else { return };
        if let (Some(reply), Some(back)) = (reply, answer_to) {
            let (token, message) = match reply {
                Reply::Now(message) => (RecordToken(0), message),
                Reply::AfterPersist(token, message) => (token, message),
            };
            let from = process.founding.sender();
            let seat = process.seat;
            if let Some(asker) = self.process(back) {
                let letter = Letter { from, to: asker.id, message };
                self.letter_waits(life, token, letter, seat, Some(back));
            }
        }
        let now = send_now.into_iter().map(|outgoing| (RecordToken(0), outgoing));
        for (token, Outgoing { name, letter, .. }) in now.chain(send_after_persist) {
            let seat = self.seats.iter().position(|seat| seat.name == name);
            if let Some(seat) = seat {
                self.letter_waits(life, token, letter, SeatId(seat), None);
            }
        }
        if let Some(round) = ask {
            let delay = self.travel();
            self.after(delay, Event::Ask(life, round));
        }
        if founded.is_some() {
            self.enter(life);
        }
    }

    fn letter_waits(
        &mut self,
        life: Life,
        token: RecordToken,
        letter: Letter,
        seat: SeatId,
        back: Option<Life>,
    ) {
        let process = self.process_mut(life).expect("it just acted");
        if token > process.record_written {
            process.letters.push((token, letter, seat, back));
        } else {
            self.post(letter, seat, back);
        }
    }

    fn post(&mut self, letter: Letter, seat: SeatId, back: Option<Life>) {
        if !self.loses() {
            let delay = self.travel();
            self.after(delay, Event::Letter(letter, seat, back));
        }
    }

    /// A founding record is on disk.
    pub fn record_written(&mut self, life: Life) {
        let Some(process) = self.process_mut(life) else { return };
        let (token, record) = process.records.pop_front().expect("one was on its way");
        let dir = process.dir;
        process.record_written = token;
        let letters = std::mem::take(&mut process.letters);
        let (ready, kept) = letters.into_iter().partition(|(waits, ..)| *waits <= token);
        process.letters = kept;
        self.counts.record(&record, self.dirs[dir.0].id);
        self.dirs[dir.0].record = record;
        for (_, letter, seat, back) in ready {
            self.post(letter, seat, back);
        }
        self.found(life, None, |founding| founding.persisted(token));
    }

    /// A letter arrives at a seat, or comes back to who asked.
    pub fn letter_arrives(&mut self, letter: Letter, seat: SeatId, answer_to: Option<Life>) {
        let sender = self.lives.iter().position(|process| {
            process.as_ref().is_some_and(|process| process.id == letter.from.node_id)
        });
        let (receiver, back) = match answer_to {
            Some(life) => (Some(life), None),
            None => (self.seats[seat.0].at, sender.map(Life)),
        };
        let Some(receiver) = receiver.filter(|life| self.process(*life).is_some()) else { return };
        if let Some(sender) = sender
            && let (Some(a), Some(b)) = (self.process(Life(sender)), self.process(receiver))
            && self.cut(a.seat, b.seat)
        {
            return;
        }
        say!(self, "{receiver:?} reads {:?}", letter.message);
        if let Some(message) = self.member_answers(receiver, &letter) {
            let process = self.process(receiver).expect("it reads");
            let from = process.founding.sender();
            let (seat, to) = (process.seat, letter.from.node_id);
            if back.is_some() {
                self.post(Letter { from, to, message }, seat, back);
            }
            return;
        }
        self.found(receiver, back, |founding| founding.received(letter));
    }

    /// Everybody is asked who they are; their answers come together.
    pub fn asks(&mut self, life: Life, round: AskRound) {
        let Some(process) = self.process(life) else { return };
        let own = process.seat;
        let mut results = Vec::new();
        for seat in (0..self.seeds).map(SeatId) {
            let lost = seat != own && (self.loses() || self.cut(own, seat) || self.cut(seat, own));
            let answerer = self.seats[seat.0].at.filter(|_| !lost);
            let result = match answerer.and_then(|life| self.process(life)) {
                Some(process) => Ok(process.answer()),
                None => Err("no connection".to_owned()),
            };
            results.push(Asked { seat: Some(self.seats[seat.0].name.clone()), result });
        }
        let delay = self.travel();
        self.after(delay, Event::Asked(life, round, results));
    }

    /// The decision is on disk: the log begins with the founding entry, then the core starts.
    fn enter(&mut self, life: Life) {
        let Some(process) = &mut self.lives[life.0] else { return };
        let founded = process.founding.founded().expect("it was decided");
        process.cluster = Some(founded.cluster_id);
        let directory = &mut self.dirs[process.dir.0];
        self.oracle.founded(founded.cluster_id, &founded.membership);
        directory.cluster = Some(founded.cluster_id);
        if directory.durable.last_index() > Index::ZERO {
            return self.start_core(life);
        }
        let batch = Persist {
            token: PersistToken::default(),
            hard_state: Some(founded.hard_state()),
            install: None,
            truncate_after: None,
            entries: vec![founded.entry()],
        };
        let (mut log, _) = MemoryLog::open(&directory.disk);
        log.append(&batch).expect("memory has room");
        directory.written.apply(&batch, None);
        self.oracle.written(directory.id, &batch, &directory.written);
        let delay = self.rng.random_range(1..20);
        self.after(delay, Event::FirstBatch(life));
    }

    /// The founding entry is on disk.
    pub fn first_batch_written(&mut self, life: Life) {
        let Some(dir) = self.process(life).map(|process| process.dir) else { return };
        let directory = &mut self.dirs[dir.0];
        let (mut log, _) = MemoryLog::open(&directory.disk);
        log.sync().expect("memory does not fail");
        directory.durable.copy_from(&directory.written);
        self.start_core(life);
    }
}
