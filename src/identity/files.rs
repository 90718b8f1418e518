//! The files in which an identity lies: one directory for each process (design section 6).
//!
//! ```text
//! ca.crt              the CAs to trust, one or more
//! ca.crl              optional: what each of them has revoked
//! NAME.crt, NAME.key  the seat's own certificate and key, where either exists, else
//! tls.crt, tls.key    those of whoever the directory is for
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// CA certificates to trust, in every directory.
pub const CA_CRT: &str = "ca.crt";
/// Revocation lists in PEM, one for each CA of the bundle; may be missing.
pub const CA_CRL: &str = "ca.crl";
/// The most bytes that the file of the revocation lists may have, some twenty thousand entries: it is read
/// again and again, and Kubernetes holds no larger Secret.
pub const CA_CRL_BYTES_MAX: usize = 1 << 20;
/// The process's certificate, intermediates after it if there are any.
pub const TLS_CRT: &str = "tls.crt";
/// The process's private key.
pub const TLS_KEY: &str = "tls.key";

/// The files of certificate and key: the seat's own if either exists, else the common ones.
#[must_use]
pub fn pair(directory: &Path, seat: Option<&str>) -> (PathBuf, PathBuf) {
    if let Some(seat) = seat {
        let own = (directory.join(format!("{seat}.crt")), directory.join(format!("{seat}.key")));
        if own.0.exists() || own.1.exists() {
            return own;
        }
    }
    (directory.join(TLS_CRT), directory.join(TLS_KEY))
}

/// The permission bits of a private key that others than its owner and group may use; none if it is
/// kept well. The group is accepted: Kubernetes' `fsGroup` makes mounted keys group-readable.
///
/// # Errors
/// What the system says if the mode cannot be asked for.
pub fn exposed_mode(key: &Path) -> io::Result<Option<u32>> {
    const OTHERS: u32 = 0o007;
    let mode = fs::metadata(key)?.permissions().mode() & 0o7777;
    Ok((mode & OTHERS != 0).then_some(mode))
}
