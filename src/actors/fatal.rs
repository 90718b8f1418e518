//! The one way in which a running node ends itself: a last line in the log and a distinct exit status.
//! Kubernetes, or whoever started it, is the supervisor of the process; nothing is restarted in place,
//! because memory may be ahead of the disk (correctness A2, A3).

use crate::exit::Exit;
use crate::storage::StorageError;

/// Ends the process because of its disk.
pub fn storage(error: &StorageError) -> ! {
    let exit = Exit::of_storage(error);
    tracing::error!(status = exit.code(), "{error}; the process ends");
    std::process::exit(exit.code())
}

/// Ends the process because an actor that must live has died.
pub fn actor(name: &str) -> ! {
    // The panic hook writes the last line and ends the process.
    panic!("the {name} has died, and the node cannot go on without it")
}
