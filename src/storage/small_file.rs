//! Small files that are replaced as a whole: the identity and the founding record.
//!
//! Layout, little-endian: eight bytes of magic, version (u32), length (u32), crc32c of everything but
//! itself (u32), then the content. The layout itself is fixed for ever, so that a newer version can be
//! told from damage. Replacing: write under a temporary name, sync, rename, sync the directory (D2), so
//! that a crash leaves the old content or the new.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::StorageError;
use super::fs::Fs;

/// What kind of small file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
}

const HEADER_BYTES: usize = 20;

/// Writes the file, replacing an old one in one step, durably.
pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    format: Format,
    content: &[u8],
) -> Result<(), StorageError> {
    let bytes = encode(format, content);
    let temporary = temporary(path);
    let fail = |action| move |error| StorageError::io(action, path, error);
    let file = fs.create(&temporary).map_err(fail("creating"))?;
    file.write_at(&bytes, 0).map_err(fail("writing"))?;
    file.sync().map_err(fail("syncing"))?;
    fs.rename(&temporary, path).map_err(fail("renaming"))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    fs.sync_dir(parent).map_err(|error| StorageError::io("syncing", parent, error))
}

/// Reads the file; none if there is no such file.
pub(crate) fn read(
    fs: &dyn Fs,
    path: &Path,
    format: Format,
) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match fs.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("opening", path, error)),
    };
    let fail = |error| StorageError::io("reading", path, error);
    let length = file.len().map_err(fail)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let count = file.read_at(&mut bytes, 0).map_err(fail)?;
    bytes.truncate(count);
    decode(path, format, &bytes).map(Some)
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

fn encode(format: Format, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
    bytes.extend_from_slice(&format.magic);
    bytes.extend_from_slice(&format.version.to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), content);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

fn decode(path: &Path, format: Format, bytes: &[u8]) -> Result<Vec<u8>, StorageError> {
    let damaged = |what: &str| Err(StorageError::damaged(path, 0, what));
    if bytes.len() < HEADER_BYTES {
        return damaged("the file is too short");
    }
    let (header, content) = bytes.split_at(HEADER_BYTES);
    if header[..8] != format.magic {
        return damaged("the file begins with a wrong magic number");
    }
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if word(12) as usize != content.len() {
        return damaged("the file's length is wrong");
    }
    if crc32c::crc32c_append(crc32c::crc32c(&header[..16]), content) != word(16) {
        return damaged("the file's checksum is wrong");
    }
    if word(8) > format.version {
        return Err(StorageError::NewerFormat {
            path: path.display().to_string(),
            found: word(8),
            known: format.version,
        });
    }
    Ok(content.to_vec())
}
