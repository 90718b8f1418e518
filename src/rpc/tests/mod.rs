//! Tests of the transport as a whole, in one process over loopback.

mod calls;
mod certificates;
mod crls;
mod files;
mod frames;
mod hostile;
mod https;
mod names;
mod openssl;
mod pki;
mod reload;
mod revocation;
mod silence;
mod speed;
mod support;
