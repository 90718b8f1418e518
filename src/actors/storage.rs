//! The storage actor: the node's door to the disk thread. It decides nothing; it hands work over in
//! the order in which it comes.

use actix::prelude::*;

use super::disk_thread::DiskThread;
use super::messages::{FinishDisk, NoteSeen, PersistBatch, PurgeLog};

/// In front of the disk thread.
pub struct Storage {
    disk: DiskThread,
}

impl Storage {
    /// A door to a running disk thread.
    #[must_use]
    pub fn new(disk: DiskThread) -> Storage {
        Storage { disk }
    }
}

impl Actor for Storage {
    type Context = Context<Self>;
}

impl Handler<PersistBatch> for Storage {
    type Result = ();

    fn handle(&mut self, message: PersistBatch, _: &mut Self::Context) {
        self.disk.persist(message.0);
    }
}

impl Handler<PurgeLog> for Storage {
    type Result = ();

    fn handle(&mut self, message: PurgeLog, _: &mut Self::Context) {
        self.disk.purge(message.0);
    }
}

impl Handler<NoteSeen> for Storage {
    type Result = ();

    fn handle(&mut self, message: NoteSeen, _: &mut Self::Context) {
        self.disk.note_seen(message.0);
    }
}

impl Handler<FinishDisk> for Storage {
    type Result = ();

    fn handle(&mut self, _: FinishDisk, _: &mut Self::Context) {
        self.disk.finish();
    }
}
