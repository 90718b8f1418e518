//! Everything a person or a script does with a cluster: commands, shell, benchmark, certificates, local
//! clusters. All of it is in [`balsa::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(balsa::cli::cltraft(std::env::args_os().skip(1).collect()))
}
