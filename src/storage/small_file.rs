//! Small files that are replaced as a whole: the identity and the founding record.
//!
//! Layout, little-endian: eight bytes of magic, version (u32), length (u32), crc32c of everything
//! but itself (u32), then the content. The layout itself is fixed for ever, so that a newer version
//! can be told from damage. Replacing: write under a temporary name, sync, rename, sync the
//! directory (D2), so that a crash leaves the old content or the new.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fs::Fs;
use super::{BLOCK_BYTES, StorageError};

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
    let room = (bytes.len() as u64).next_multiple_of(BLOCK_BYTES);
    let fail = |action| {
        move |error| StorageError::io(action, path, error).needing(fs, "a small file", room)
    };
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

#[cfg(test)]
mod tests {
    use super::super::faulty::{FaultyDisk, Survival};
    use super::*;

    const FORMAT: Format = Format { magic: *b"BALSA-XX", version: 2 };

    fn path() -> &'static Path {
        Path::new("/file")
    }

    #[test]
    fn the_bytes_stay_as_they_are() {
        let bytes = encode(FORMAT, b"abc");
        assert_eq!(bytes[..16], *b"BALSA-XX\x02\0\0\0\x03\0\0\0");
        assert_eq!(u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]), 4_029_824_341);
        assert_eq!(bytes[20..], *b"abc");
    }

    #[test]
    fn a_crash_at_any_call_leaves_the_old_content_or_the_new() {
        use super::super::faulty::Failure;
        let disk = FaultyDisk::new();
        write(&*disk.fs(), path(), FORMAT, b"old").unwrap();
        let calls = 5;
        let mut outcomes = std::collections::BTreeSet::new();
        for call in 0..calls {
            for seed in 0..50 {
                let disk = disk.fork();
                disk.fail_at(disk.calls() + call, Failure::DieAfter);
                assert!(write(&*disk.fs(), path(), FORMAT, b"new!").is_err());
                disk.lose_power(Survival::Some(seed));
                let found = read(&*disk.fs(), path(), FORMAT).unwrap().unwrap();
                assert!(found == b"old" || found == b"new!");
                assert!(call + 1 < calls || found == b"new!", "durable after the last call (D2)");
                outcomes.insert(found);
            }
        }
        assert_eq!(outcomes.len(), 2);
    }

    #[test]
    fn damage_is_refused_and_a_newer_version_is_told_from_it() {
        let disk = FaultyDisk::new();
        assert_eq!(read(&*disk.fs(), path(), FORMAT).unwrap(), None);
        write(&*disk.fs(), path(), FORMAT, b"content").unwrap();
        let length = disk.content(path()).unwrap().len();
        for bit in 0..length * 8 {
            let disk = disk.fork();
            disk.corrupt(path(), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let error = read(&*disk.fs(), path(), FORMAT).unwrap_err();
            assert!(matches!(error, StorageError::Damaged { .. }), "bit {bit}: {error}");
        }
        for keep in 0..length {
            let disk = disk.fork();
            disk.corrupt(path(), |bytes| bytes.truncate(keep));
            let error = read(&*disk.fs(), path(), FORMAT).unwrap_err();
            assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        }
        let older = Format { version: 1, ..FORMAT };
        let error = read(&*disk.fs(), path(), older).unwrap_err();
        assert!(matches!(error, StorageError::NewerFormat { found: 2, known: 1, .. }), "{error}");
        assert!(matches!(error, StorageError::NewerFormat { .. }), "{error}");
    }
}
