//! One at a time: who changes anything below `OUT` holds the lock of its CA.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::disk::PRIVATE;
use super::error::CertsError;
use crate::platform;

/// The lock's file in the CA's directory. It stays there: removing it would let two hold it.
const LOCK: &str = "lock";
/// How often a lock that is waited for is tried.
const LOOK: Duration = Duration::from_millis(20);

/// Held as long as this lives, and no longer than the process.
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If that fails, closing the file does it.
        let _ = platform::unlock(&self.file);
    }
}

impl Lock {
    /// Takes the lock, waiting at most `patience` for who has it.
    ///
    /// # Errors
    /// [`CertsError::Busy`], or [`CertsError::Io`] if the file cannot be made.
    pub(super) fn take(ca_dir: &Path, patience: Duration) -> Result<Lock, CertsError> {
        let path = ca_dir.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(CertsError::io("open", &path))?;
        let until = Instant::now() + patience;
        loop {
            match platform::lock_exclusive(&file) {
                Ok(()) => return Ok(Lock { file }),
                Err(e) if e.kind() != ErrorKind::WouldBlock => {
                    return Err(CertsError::io("lock", &path)(e));
                }
                Err(_) if Instant::now() >= until => {
                    return Err(CertsError::Busy { path: ca_dir.to_path_buf() });
                }
                Err(_) => thread::park_timeout(LOOK),
            }
        }
    }
}
