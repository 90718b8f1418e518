//! Values that are not typed: from a file, or from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;

use crate::kv::limits::VALUE_BYTES_MAX;

/// Where a value comes from. One that is longer than an argument may be, or that has NUL bytes, cannot
/// be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Typed.
    Given(Bytes),
    /// The content of a file.
    File(PathBuf),
    /// Standard input, to its end.
    Stdin,
}

impl Source {
    /// The value. Not much more is read than a value may have.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub(crate) fn read(&self) -> Result<Bytes, String> {
        let most = VALUE_BYTES_MAX as u64 + 1;
        let mut value = Vec::new();
        let (read, name) = match self {
            Source::Given(value) => return Ok(value.clone()),
            Source::File(path) => {
                let file = File::open(path);
                let read = file.and_then(|file| file.take(most).read_to_end(&mut value));
                (read, path.display().to_string())
            }
            Source::Stdin => {
                let read = io::stdin().lock().take(most).read_to_end(&mut value);
                (read, "standard input".to_owned())
            }
        };
        match read {
            Ok(_) => Ok(Bytes::from(value)),
            Err(error) => Err(format!("cannot read {name}: {error}")),
        }
    }
}
