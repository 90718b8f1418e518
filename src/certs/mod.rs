//! Certificates: who a process is, written down so that openssl and rustls both agree.
//!
//! Tour: [`authority`] makes the CA and everything it signs, with rcgen (mission C6); [`layout`] puts the
//! results on disk, in whole directories, and never over an existing CA or key unless told so;
//! [`facts`] reads certificates back, whoever made them; [`verify`] asks the verifier that nodes use;
//! [`show`] puts both together for files and directories, and says what a node would object to.
//!
//! The keys are ECDSA on P-256 in PKCS#8: every TLS stack has them, signatures are fast and short,
//! and `openssl` reads them without conversion.
//!
//! [`secrets`] writes the same as Secret manifests for Kubernetes.
//!
//! What exists is changed through [`Site`], which holds the lock: [`renew`] and [`revoke`] for
//! certificates, [`rotate`] for the CA. [`list`] makes and reads revocation lists; `trust` puts CAs and
//! lists where processes read them; `record` keeps the certificates that were replaced.
//!
//! Not here: checking a peer during a handshake, and watching files for changes (both `rpc`).

pub mod authority;
mod disk;
mod error;
pub mod facts;
pub mod layout;
pub mod list;
mod lock;
mod record;
pub mod renew;
pub mod revoke;
pub mod rotate;
pub mod secrets;
mod show;
pub mod site;
#[cfg(test)]
mod tests;
mod trust;
mod verify;

pub use authority::{Authority, Issued, Profile, RawParams, Validity};
pub use error::CertsError;
pub use facts::Facts;
pub use layout::{Existing, Written};
pub use list::List;
pub use renew::Whose;
pub use revoke::{Revocation, Which};
pub use show::{Presented, PresentedList, RevokedPerson, show, show_lists};
pub use site::{Change, Site, Stage};
pub use verify::{Purpose, verify};
