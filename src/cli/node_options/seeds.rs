//! The seats of the founding: `--seeds`, or `--service` with `--replicas`.

use crate::cli::judge::Judge;
use crate::cli::values;
use crate::config::{PORT_DEFAULT, Seed};

/// The seats of the founding, and the service that names them, with its port, if one does.
pub(super) struct Seeds {
    pub(super) list: Vec<Seed>,
    pub(super) service: Option<String>,
}

impl Seeds {
    /// From `--seeds`, or from `--service` with `--replicas`; `name` and `port` are the node's own.
    pub(super) fn read(
        judge: &mut Judge<'_>,
        name: Option<&str>,
        port: Option<u64>,
    ) -> Option<Seeds> {
        let service = judge.setting("service", |text| {
            let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            let name = text.trim_end_matches('.');
            if fits && !name.is_empty() {
                Ok(name.to_owned())
            } else {
                Err(format!("'{text}' is not a DNS name"))
            }
        });
        let replicas = judge.setting("replicas", |text| values::number(text, 1, 99));
        let list = judge.setting("seeds", seed_list);
        let typed = |judge: &Judge<'_>| judge.typed("seeds") || judge.typed("service");
        match (list, service) {
            (Some(_), Some(_)) => {
                judge.problem("--seeds and --service say the same thing twice: give one of them");
                None
            }
            (Some(list), None) => {
                if replicas.is_some() {
                    judge.problem("--replicas goes with --service, not with --seeds");
                }
                Some(Seeds { list, service: None })
            }
            (None, Some(service)) => {
                let Some(replicas) = replicas else {
                    if !judge.typed("replicas") {
                        judge.problem(
                            "--service needs --replicas (how many seats found the cluster)",
                        );
                    }
                    return None;
                };
                let port = port.unwrap_or(u64::from(PORT_DEFAULT));
                // The name itself has been judged already; here only its form matters.
                let Some((prefix, _)) = values::ordinal(name?) else {
                    judge.problem(format!(
                        "--service counts seats by ordinal, and '{}' has none (such as raft-1)",
                        name.unwrap_or_default()
                    ));
                    return None;
                };
                let seed = |ordinal| Seed {
                    name: format!("{prefix}-{ordinal}"),
                    address: format!("{prefix}-{ordinal}.{service}:{port}"),
                };
                let list = (0..replicas).map(seed).collect();
                Some(Seeds { list, service: Some(format!("{service}:{port}")) })
            }
            (None, None) => {
                if !typed(judge) {
                    judge.problem("the seats are missing: --seeds, or --service with --replicas");
                }
                None
            }
        }
    }

    /// Where a seat is reached: its own seed, or its name in the service that names the seeds.
    pub(super) fn address_of(&self, name: &str) -> Option<String> {
        if let Some(own) = self.list.iter().find(|seed| seed.name == name) {
            return Some(own.address.clone());
        }
        let first = self.list.first().filter(|_| self.service.is_some())?;
        let rest = first.address.strip_prefix(&first.name)?;
        Some(format!("{name}{rest}"))
    }
}

fn seed_list(text: &str) -> Result<Vec<Seed>, String> {
    let mut list: Vec<Seed> = Vec::new();
    let mut problems = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match seed(part, &list) {
            Ok(seed) => list.push(seed),
            Err(why) => problems.push(why),
        }
    }
    match problems.is_empty() {
        true if list.is_empty() => Err("the list is empty".to_owned()),
        true => Ok(list),
        false => Err(problems.join("; ")),
    }
}

fn seed(part: &str, before: &[Seed]) -> Result<Seed, String> {
    let (name, address) = part
        .split_once('=')
        .ok_or_else(|| format!("'{part}' is not NAME=HOST:PORT such as raft-0=10.0.0.1:6000"))?;
    let seed = Seed { name: values::seat(name)?, address: values::host_port(address)? };
    if before.iter().any(|other| other.name == seed.name) {
        return Err(format!("{} is there twice", seed.name));
    }
    match before.iter().find(|other| other.address == seed.address) {
        Some(other) => Err(format!("{} and {} have the same address", other.name, seed.name)),
        None => Ok(seed),
    }
}
