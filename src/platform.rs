//! The services of the operating system that `std` does not offer. The only module that uses `fs2`
//! (no longer developed): exclusive locks, the reservation of disk space and how much there is. Below
//! the layers, because data directories and CAs are both locked.

use std::fs::File;
use std::io;

/// Locks a file exclusively, without waiting; the lock lasts as long as the open file.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if another process holds it.
pub(crate) fn lock_exclusive(file: &File) -> io::Result<()> {
    fs2::FileExt::try_lock_exclusive(file).map_err(|error| {
        if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() {
            io::Error::from(io::ErrorKind::WouldBlock)
        } else {
            error
        }
    })
}

/// Gives a lock back. Closing the file does that too, but not while a child that another thread is just
/// starting still has a copy of it.
///
/// # Errors
/// The operating system's.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    fs2::FileExt::unlock(file)
}

/// Reserves `bytes` for an empty file and makes it that long, reading as zeros. False if the file
/// system could not do it but may still have the room.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if there is no room.
pub(crate) fn reserve(file: &File, parent: &std::path::Path, bytes: u64) -> io::Result<bool> {
    if fs2::FileExt::allocate(file, bytes).is_ok() {
        return Ok(true);
    }
    // The error cannot be used: `posix_fallocate` returns its error number and leaves `errno`
    // alone, and fs2 reads `errno`. So ask for the room; everything else (a quota, a file system
    // that cannot reserve) shows when the zeros are written.
    if free_bytes(parent)? < bytes {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    Ok(false)
}

/// Bytes that this process may still write to the volume of a path that exists.
///
/// # Errors
/// The operating system's.
pub(crate) fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    fs2::available_space(path)
}
