//! `srvraft`: one node of a Balsa cluster.

use balsa::config::{NodeCommand, Parsed};
use balsa::exit::{Exit, Failure};
use balsa::{actors, cli, telemetry};

/// What the kubelet takes for a failed probe, like every other status but 0.
const PROBE_FAILED: i32 = 1;

fn main() {
    let arguments = std::env::args_os().skip(1).collect();
    let code = match cli::node_options::parse_node(arguments, &|name| std::env::var_os(name)) {
        Ok(Parsed::Run(NodeCommand::Serve(config))) => {
            telemetry::init(config.log_format);
            actors::run::run(*config).code()
        }
        Ok(Parsed::Run(NodeCommand::Discard { name, data_dir })) => {
            done(actors::offline::discard(&name, &data_dir))
        }
        Ok(Parsed::Run(NodeCommand::Recover(wanted))) => done(actors::recover::recover(&wanted)),
        Ok(Parsed::Run(NodeCommand::Probe(wanted))) => match actors::probe::probe(&wanted) {
            Ok(said) => {
                println!("{said}");
                Exit::Stopped.code()
            }
            Err(why) => {
                eprintln!("srvraft probe: {why}");
                PROBE_FAILED
            }
        },
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

/// What a command that ends at once has to say.
fn done(result: Result<String, Failure>) -> i32 {
    match result {
        Ok(said) => {
            println!("{said}");
            Exit::Stopped.code()
        }
        Err(Failure { exit, message }) => {
            eprintln!("srvraft: {message}");
            exit.code()
        }
    }
}
