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
//! Not here: checking a peer during a handshake (`rpc`), watching files for changes (`rpc`), and
//! revocation lists, renewal and change of the CA, which come with Kubernetes.

pub mod authority;
mod error;
pub mod facts;
pub mod layout;
pub mod secrets;
mod show;
mod verify;

pub use authority::{Authority, Issued, Profile, RawParams, Validity};
pub use error::CertsError;
pub use facts::Facts;
pub use layout::{Existing, Written};
pub use show::{Presented, show};
pub use verify::{Purpose, verify};
