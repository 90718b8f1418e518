//! Bad input to real nodes: one clear error that names the thing and the way out, the exit status of
//! the command line's table, and nothing lost.

mod damage;
mod full_disk;
mod harness;
mod refusals;
mod requests;
