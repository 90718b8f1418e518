//! What is done with the directory of a node that does not run: looking whose it is, and setting it
//! aside (`srvraft discard`).

use std::path::Path;

use crate::exit::{Exit, Failure};
use crate::storage::{self, RealFs, StorageError};

/// `srvraft discard`: sets a seat's directory aside; what it says when that is done.
///
/// # Errors
/// If the directory is in use, another seat's, or holds no node; or the disk's.
pub fn discard(name: &str, path: &Path) -> Result<String, Failure> {
    match check_seat(name, path) {
        // Whose it was cannot be read any more. It is set aside because of that.
        Err(failure) if failure.exit == Exit::Damaged => {}
        other => other?,
    }
    let aside = storage::set_aside(&RealFs, path, "discarded")?;
    Ok(format!(
        "{} was set aside and lies in {} now; nothing was deleted. Started again, {name} begins with an \
         empty directory, and the cluster takes it in as a node that lost its disk",
        path.display(),
        aside.display()
    ))
}

/// Whether a directory holds the node of a seat.
///
/// # Errors
/// If it holds none, or another seat's; or if that cannot be read.
pub fn check_seat(name: &str, path: &Path) -> Result<(), Failure> {
    let shown = path.display().to_string();
    match storage::seat_of(&RealFs, path)? {
        Some(seat) if seat == name => Ok(()),
        Some(seat) => Err(StorageError::Foreign {
            path: shown,
            found: format!("node {seat}"),
            expected: format!("node {name}"),
        }
        .into()),
        None => Err(Failure {
            exit: Exit::Directory,
            message: format!("{shown} holds no node; nothing was changed. Check --data-dir"),
        }),
    }
}
