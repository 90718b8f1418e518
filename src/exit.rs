//! Exit statuses of `srvraft` (design: command line). They stand here and nowhere else.

use crate::storage::StorageError;

/// How `srvraft` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped in good order.
    Stopped,
    /// Bad options.
    Options,
    /// The data is damaged.
    Damaged,
    /// The address is in use.
    AddressInUse,
    /// The directory is locked, or of another node or cluster.
    Directory,
    /// The disk failed.
    Disk,
    /// Written by a newer version.
    NewerFormat,
    /// Certificate or key.
    Certificate,
}

/// A reason to end: one sentence and a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status.
    pub exit: Exit,
    /// The sentence.
    pub message: String,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure { exit: Exit::of_storage(&error), message: error.to_string() }
    }
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Exit::Stopped => 0,
            Exit::Options => 64,
            Exit::Damaged => 65,
            Exit::AddressInUse => 71,
            Exit::Directory => 73,
            Exit::Disk => 74,
            Exit::NewerFormat => 76,
            Exit::Certificate => 78,
        }
    }

    /// What a storage error means for the process.
    #[must_use]
    pub fn of_storage(error: &StorageError) -> Exit {
        match error {
            StorageError::Damaged { .. }
            | StorageError::UnsoundSnapshot { .. }
            | StorageError::TooManyAside { .. } => Exit::Damaged,
            StorageError::Locked { .. } | StorageError::Foreign { .. } => Exit::Directory,
            StorageError::NewerFormat { .. } => Exit::NewerFormat,
            StorageError::NoSpace { .. }
            | StorageError::OutOfRange { .. }
            | StorageError::Io { .. } => Exit::Disk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statuses_are_those_of_the_manual() {
        let manual = include_str!("../docs/operations.md");
        for (exit, code) in [
            (Exit::Stopped, 0),
            (Exit::Options, 64),
            (Exit::Damaged, 65),
            (Exit::AddressInUse, 71),
            (Exit::Directory, 73),
            (Exit::Disk, 74),
            (Exit::NewerFormat, 76),
            (Exit::Certificate, 78),
        ] {
            assert_eq!(exit.code(), code, "scripts rely upon these numbers");
            assert!(manual.contains(&format!("| {code} |")), "{code} is not in the manual");
        }
    }
}
