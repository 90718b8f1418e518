//! What people type and read: options, commands, text and JSON in both languages.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the options of both executables as text; the only user of `structopt` |
//! | `node_options`, `client_options` | what they mean to `srvraft` and to `cltraft` |
//! | `command` | the commands of `cltraft` and how their words are read |
//! | `values` | how durations, addresses and names are written |
//! | `run` | carries commands out against a cluster |
//! | `answer`, `text`, `json` | what was found out, for people and for programs |
//! | `selftest`, `shell`, `bench`, `local`, `certs` | the commands that are more than one call |
//! | `lang` | English or Spanish |

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
