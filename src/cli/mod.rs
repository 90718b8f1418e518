//! What people type and read.

pub mod certs;
