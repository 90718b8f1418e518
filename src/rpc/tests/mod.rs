//! Tests of the transport as a whole, in one process over loopback.

mod calls;
mod certificates;
mod files;
mod frames;
mod hostile;
mod pki;
mod reload;
mod speed;
mod support;
