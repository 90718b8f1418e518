//! `srvraft`: one node of a Balsa cluster.

use balsa::config::{NodeCommand, Parsed};
use balsa::exit::Exit;
use balsa::{actors, cli, telemetry};

fn main() {
    let arguments = std::env::args_os().skip(1).collect();
    let code = match cli::node_options::parse_node(arguments, &|name| std::env::var_os(name)) {
        Ok(Parsed::Run(NodeCommand::Serve(config))) => {
            telemetry::init(config.log_format);
            actors::run::run(*config).code()
        }
        Ok(Parsed::Run(NodeCommand::Discard { .. } | NodeCommand::Recover(_))) => {
            eprintln!("srvraft: this command is not here yet; nothing was changed");
            Exit::Options.code()
        }
        Ok(Parsed::Print(text)) => {
            println!("{text}");
            Exit::Stopped.code()
        }
        Err(report) => {
            eprintln!("{report}");
            Exit::Options.code()
        }
    };
    std::process::exit(code)
}
