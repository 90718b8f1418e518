//! The core against the paper, against a twin, in stories and in storms.
//!
//! All of them run whole clusters in [`env`], a network and disks that do what they are told, under
//! the eyes of [`oracle`], which knows everything and looks at the disks, not at what nodes believe.

mod acts;
mod bare;
mod disk;
mod dissertation;
mod env;
mod hello;
mod oracle;
mod paper;
mod quick;
mod rewind;
mod script;
mod seats;
mod show;
mod storm;
mod topology;
