//! What becomes of a node whose disk was lost, or is not what it was: with real processes, and with
//! clients that write all the while where that can be.
//!
//! Short form: a few seconds each. `BALSA_LONG=1`: ten lost disks in a row.

mod amnesia;
mod cut_snapshot;
mod divergence;
mod harness;
mod lost_disk;
mod restored;
