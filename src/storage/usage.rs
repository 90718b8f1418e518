//! How much of the volume there is, and how much of it the log takes: asked of the file system, so that
//! it costs the writer of the log nothing. On a volume that hangs it hangs as well.

use std::fs;
use std::io;
use std::path::Path;

use super::directory::LOG;
use crate::platform;

/// Of one data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// Bytes that this process may still write to the volume.
    pub free_bytes: u64,
}

/// Looks at a data directory; one that has no log yet has zero bytes of it.
///
/// # Errors
/// The operating system's.
pub fn usage(directory: &Path) -> io::Result<Usage> {
    let mut log_bytes = 0;
    match fs::read_dir(directory.join(LOG)) {
        Ok(entries) => {
            for entry in entries {
                // A file that is purged just now counts no more.
                log_bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(Usage { log_bytes, free_bytes: platform::free_bytes(directory)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_log_are_summed_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let empty = usage(path).expect("a volume");
        assert_eq!(empty.log_bytes, 0);
        assert!(empty.free_bytes > 0);
        fs::create_dir(path.join(LOG)).expect("made");
        for (name, bytes) in [("1.log", 10), ("2.log", 32)] {
            fs::write(path.join(LOG).join(name), vec![0; bytes]).expect("written");
        }
        assert_eq!(usage(path).expect("a volume").log_bytes, 42);
        assert!(usage(&path.join("nowhere")).is_err());
    }
}
