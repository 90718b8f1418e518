//! Members that come and go, and stops in good order: with real processes and clients that write all
//! the while.

mod asleep;
mod harness;
mod member_input;
mod rolling;
mod scale;
