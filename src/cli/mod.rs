//! What people type and read: options, commands, text and JSON in both languages.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the options of both executables as text; the only user of `structopt` |
//! | `node_options` | what they mean to `srvraft` |
//! | `values` | how durations, addresses and names are written |

pub mod answer;
pub mod certs;
pub mod client_options;
pub mod command;
pub mod json;
pub mod lang;
pub mod node_options;
pub mod options;
pub mod text;
pub mod values;
