//! The world: time, seats, directories, processes, and everything that is on its way between them. One
//! queue of events, ordered by time; one generator of chance; nothing else decides what happens.

use std::collections::{BTreeMap, BTreeSet};

use balsa::raft::founding::{AskRound, Asked, Letter, Record};
use balsa::raft::seats::JoinAnswer;
use balsa::raft::{
    Boot, ClusterId, Envelope, LogId, Node, NodeId, Options, RequestId, Seen, SnapshotMeta,
};
use balsa::storage::MemoryDisk;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::client::{Client, Request, Said, Story};
use super::counts::Counts;
use super::mirror::Mirror;
use super::oracle::Oracle;
use super::process::Process;
use super::trace::Trace;
use super::volumes::Copy;

/// How many units of time a tick of the core is.
pub const TICK: u64 = 10;

/// One start of a process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub usize);

/// One data directory; one that is put back from a copy is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirId(pub usize);

/// A seat: a name and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatId(pub usize);

/// What is known of a seat outside the cluster.
pub struct Seat {
    pub name: String,
    /// The process that the seat's address leads to.
    pub at: Option<Life>,
    /// The directory on the seat's volume.
    pub dir: Option<DirId>,
    /// It was scaled down and never comes back.
    pub gone: bool,
}

/// A data directory, as it is on its disk.
pub struct Directory {
    pub id: NodeId,
    pub seat: SeatId,
    pub boot: Boot,
    pub record: Record,
    pub cluster: Option<ClusterId>,
    pub disk: MemoryDisk,
    /// The model of what the log holds, synced or not.
    pub written: Mirror,
    /// The model of what would be left after a crash.
    pub durable: Mirror,
    /// Nobody will ever open it again.
    pub lost: bool,
    /// It was put back from a copy.
    pub restored: bool,
    /// Its process finds nobody for a while, and others find it.
    pub lost_touch: bool,
}

/// A Raft message on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub envelope: Envelope,
    pub from: Life,
    pub to: Life,
    pub request: bool,
}

/// What will happen.
pub enum Event {
    Tick(Life),
    Packet(Packet),
    Unanswered(Life, NodeId, RequestId),
    Synced(Life),
    Apply(Life),
    SnapshotWritten(Life, SnapshotMeta),
    /// A process asks who sits at a seat's address.
    SeatQuestion(Life, String),
    SeatAnswered(Life, String, Option<NodeId>),
    Join(Life, SeatId),
    JoinAnswered(Life, JoinAnswer),
    Crash(Life),
    /// The founding record is durable up to here.
    RecordWritten(Life),
    /// A letter for the process at a seat, or, as an answer, for one life.
    Letter(Letter, SeatId, Option<Life>),
    /// A round of asking reaches the seats.
    Ask(Life, AskRound),
    Asked(Life, AskRound, Vec<Asked>),
    /// The first entry of the log is on disk.
    FirstBatch(Life),
    Dial(Life, NodeId),
    Hello(super::network::Hello),
    /// A node was told that its directory went back in time.
    FoundOut(Life, NodeId, Seen),
    HelloAnswered(Life, NodeId, Result<(Life, Seen), super::network::HelloRefusal>),
    Start(SeatId),
    Client(usize),
    ClientTimeout(usize, u64),
    Request(Request, SeatId),
    Reply(Request, Said),
    Fault,
}

/// How rough this world is; drawn once a run.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub delay: u64,
    pub sync: u64,
    pub loss: f64,
    pub doubles: f64,
    pub faults_every: u64,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
}

pub struct World {
    pub rng: SmallRng,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub options: Options,
    pub knobs: Knobs,
    /// The first so many seats are the seed list.
    pub seeds: usize,
    pub seats: Vec<Seat>,
    pub dirs: Vec<Directory>,
    pub lives: Vec<Option<Process>>,
    /// Directed links between seats that lose everything.
    pub cuts: BTreeSet<(SeatId, SeatId)>,
    /// Every snapshot there ever was, by its last entry: equal ones are the same.
    pub snapshots: BTreeMap<LogId, super::process::Snapshot>,
    pub copies: Vec<Copy>,
    pub clients: Vec<Client>,
    pub oracle: Oracle,
    pub counts: Counts,
    pub trace: Trace,
    /// The faults have stopped; what is lost from now on is nothing.
    pub calm: bool,
    /// Clients begin nothing new.
    pub silent: bool,
    pub story: Story,
}

/// Adds a line to the story.
macro_rules! say {
    ($world:expr, $($argument:tt)*) => {{
        let now = $world.now;
        $world.trace.say(now, format_args!($($argument)*));
    }};
}
pub(crate) use say;

impl World {
    /// Seats `s0`, `s1`, … with empty directories, all started, and clients that want something.
    pub fn new(seed: u64, seats: usize, clients: usize, print: bool) -> World {
        let mut rng = SmallRng::seed_from_u64(seed);
        let options = Options {
            heartbeat_ticks: 3,
            election_ticks: (10, 20),
            inflight_appends: rng.random_range(1..6),
            inflight_bytes: rng.random_range(100..2000),
            append_bytes: rng.random_range(50..1000),
            append_entries: rng.random_range(1..8),
            uncommitted_bytes: 4000,
            pending_reads: 10,
            trailing_entries: rng.random_range(0..6),
            pinned_bytes: if rng.random_bool(0.5) { 0 } else { 1000 },
            promote_lag: rng.random_range(0..10),
        };
        let knobs = Knobs {
            delay: rng.random_range(2..12),
            sync: rng.random_range(1..20),
            loss: if rng.random_bool(0.3) { 0.0 } else { rng.random_range(0.0..0.05) },
            doubles: if rng.random_bool(0.5) { 0.0 } else { 0.03 },
            faults_every: rng.random_range(60..300),
            snapshot_entries: rng.random_range(4..40),
        };
        let mut world = World {
            rng,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            options,
            knobs,
            seeds: seats,
            seats: Vec::new(),
            dirs: Vec::new(),
            lives: Vec::new(),
            cuts: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            copies: Vec::new(),
            clients: Vec::new(),
            oracle: Oracle::default(),
            counts: Counts::default(),
            trace: Trace::new(print),
            calm: false,
            silent: false,
            story: Story::default(),
        };
        for seat in 0..seats {
            world.add_seat();
            let delay = world.rng.random_range(0..50);
            world.after(delay, Event::Start(SeatId(seat)));
        }
        for number in 0..clients {
            world.clients.push(Client::new(number));
            let delay = world.rng.random_range(0..500);
            world.after(delay, Event::Client(number));
        }
        world
    }

    /// One more seat, with an empty directory.
    pub fn add_seat(&mut self) -> SeatId {
        let seat = SeatId(self.seats.len());
        self.seats.push(Seat { name: format!("s{}", seat.0), at: None, dir: None, gone: false });
        self.empty_volume(seat);
        seat
    }

    /// An empty directory on the seat's volume; what was there is no longer.
    pub fn empty_volume(&mut self, seat: SeatId) -> DirId {
        let id = loop {
            let id = NodeId(self.rng.random());
            if id.0 != 0 {
                break id;
            }
        };
        let dir = DirId(self.dirs.len());
        self.dirs.push(Directory {
            id,
            seat,
            boot: Boot(0),
            record: Record::default(),
            cluster: None,
            disk: MemoryDisk::default(),
            written: Mirror::default(),
            durable: Mirror::default(),
            lost: false,
            restored: false,
            lost_touch: false,
        });
        self.seats[seat.0].dir = Some(dir);
        dir
    }

    /// Lets something happen later.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    /// A number that grows with every event, for ordering what clients see.
    pub fn moment(&mut self) -> u64 {
        self.sequence += 1;
        self.now * 1_000_000 + self.sequence % 1_000_000
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("time never ends");
        self.now = at;
        match event {
            Event::Tick(life) => self.tick(life),
            Event::Packet(packet) => self.arrives(packet),
            Event::Unanswered(life, peer, request) => {
                self.input(life, |core| core.unanswered(peer, request));
            }
            Event::Synced(life) => self.synced(life),
            Event::Apply(life) => self.apply(life),
            Event::SnapshotWritten(life, meta) => self.snapshot_written(life, meta),
            Event::SeatQuestion(life, name) => self.seat_is_asked(life, name),
            Event::SeatAnswered(life, name, there) => {
                if let Some(raft) = self.raft_mut(life) {
                    raft.seats.answered(&name, there);
                }
            }
            Event::Join(life, seat) => self.join_arrives(life, seat),
            Event::JoinAnswered(life, answer) => self.join_answered(life, answer),
            Event::Crash(life) => self.crash_in_a_change(life),
            Event::RecordWritten(life) => self.record_written(life),
            Event::Letter(letter, seat, answer_to) => self.letter_arrives(letter, seat, answer_to),
            Event::Ask(life, round) => self.asks(life, round),
            Event::Asked(life, round, results) => {
                self.found(life, None, |founding| founding.asked(round, results));
            }
            Event::FirstBatch(life) => self.first_batch_written(life),
            Event::Dial(life, peer) => self.dials(life, peer),
            Event::Hello(hello) => self.hello_arrives(hello),
            Event::FoundOut(life, peer, seen) => self.went_back(life, peer, seen),
            Event::HelloAnswered(life, peer, answer) => self.hello_answered(life, peer, answer),
            Event::Start(seat) => self.start_seat(seat),
            Event::Client(client) => self.client_acts(client),
            Event::ClientTimeout(client, attempt) => self.client_timed_out(client, attempt),
            Event::Request(request, seat) => self.request_arrives(request, seat),
            Event::Reply(request, said) => self.reply_arrives(&request, said),
            Event::Fault => self.fault(),
        }
    }

    /// Runs until this moment.
    pub fn run_until(&mut self, end: u64) {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// A process that runs.
    pub fn process(&self, life: Life) -> Option<&Process> {
        self.lives[life.0].as_ref()
    }

    /// A process that runs.
    pub fn process_mut(&mut self, life: Life) -> Option<&mut Process> {
        self.lives[life.0].as_mut()
    }

    /// Its protocol core, if the process runs and is in a cluster.
    pub fn core(&self, life: Life) -> Option<&Node> {
        Some(&self.process(life)?.raft.as_ref()?.core)
    }

    /// All processes that run.
    pub fn running(&self) -> Vec<Life> {
        let lives = self.lives.iter().enumerate();
        lives.filter(|(_, process)| process.is_some()).map(|(at, _)| Life(at)).collect()
    }

    /// The process that has a directory open.
    pub fn life_of(&self, dir: DirId) -> Option<Life> {
        self.lives.iter().position(|it| it.as_ref().is_some_and(|it| it.dir == dir)).map(Life)
    }

    /// Whoever believes to lead, in the order of their starts.
    pub fn leaders(&self) -> Vec<Life> {
        let leads = |life: &Life| {
            self.core(*life).is_some_and(|core| {
                let soft = core.status().soft_state;
                soft.leader == Some(core.status().id)
            })
        };
        self.running().into_iter().filter(leads).collect()
    }

    /// Whether something gets lost that is lost at random.
    pub fn loses(&mut self) -> bool {
        !self.calm && self.rng.random_bool(self.knobs.loss)
    }

    /// How long a message travels.
    pub fn travel(&mut self) -> u64 {
        let late = !self.calm && self.rng.random_bool(0.02);
        self.rng.random_range(1..=self.knobs.delay) * if late { 10 } else { 1 }
    }
}
