//! How single values are written: durations, addresses, names, ranges, what to log. Pure; every error is
//! one sentence that quotes the value and says what is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use crate::identity::check_label;

/// `10ms`, `5s`, `2m`, `1h`; a bare number counts in `unit`.
pub(crate) fn duration(text: &str, unit: Duration) -> Result<Duration, String> {
    let wanted = || format!("'{text}' is not a duration such as 10ms, 5s or 2m");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: u32 = number.parse().map_err(|_| wanted())?;
    let unit = match suffix {
        "" => unit,
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return Err(wanted()),
    };
    match unit.checked_mul(number) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("'{text}' must be more than nothing")),
    }
}

/// `HOST:PORT`, where an IPv6 address stands in brackets.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("'{text}' is not HOST:PORT: {why}"));
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("there is no port") };
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return wrong("the port must be a number from 1 to 65535");
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(inside) if inside.parse::<std::net::Ipv6Addr>().is_ok() => {}
        Some(_) => return wrong("the brackets hold no IPv6 address"),
        None if host.is_empty() => return wrong("there is no host"),
        None if host.contains(':') => return wrong("an IPv6 address stands in brackets"),
        None if !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) => {
            return wrong("the host has a character that names do not have");
        }
        None => {}
    }
    Ok(text.to_owned())
}

/// Several of `HOST:PORT`, separated by commas.
pub(crate) fn host_ports(text: &str) -> Result<Vec<String>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (mut addresses, mut problems) = (Vec::new(), Vec::new());
    for part in parts {
        match host_port(part) {
            Ok(address) => addresses.push(address),
            Err(why) => problems.push(why),
        }
    }
    match problems.is_empty() {
        true if addresses.is_empty() => Err("the list is empty".to_owned()),
        true => Ok(addresses),
        false => Err(problems.join("; ")),
    }
}

/// `ADDR:PORT` to listen on; `port` is one that an example may show.
pub(crate) fn listen_address(text: &str, port: u16) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not ADDR:PORT such as 0.0.0.0:{port} or [::]:{port}"))
}

/// A seat's name: a DNS label, because it becomes one in Kubernetes.
pub(crate) fn seat(text: &str) -> Result<String, String> {
    check_label("the seat", text).map(|()| text.to_owned()).map_err(|_| {
        format!("'{text}' is not a seat's name such as raft-1 (a-z, 0-9 and -, 63 at most)")
    })
}

/// A number from `low` to `high`.
pub(crate) fn number(text: &str, low: u64, high: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("'{text}' is not a number from {low} to {high}")),
    }
}

/// A number of bytes from `low`, with a unit (`KiB`, `MiB`, `GiB`) or without.
pub(crate) fn size(text: &str, low: u64) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let unit = match suffix {
        "" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(1 << unit));
    match bytes {
        Some(bytes) if bytes >= low => Ok(bytes),
        Some(_) => Err(format!("'{text}' is too little; the least is {low} bytes")),
        None => Err(format!("'{text}' is not a size such as 65536, 64MiB or 1GiB")),
    }
}

/// `LOW-HIGH`, or one number for both.
pub(crate) fn tick_range(text: &str) -> Result<(u32, u32), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.trim().parse(), high.trim().parse()) {
        (Ok(low), Ok(high)) if low > high => Err(format!("the range '{text}' is upside down")),
        (Ok(low), Ok(high)) => Ok((low, high)),
        _ => Err(format!("'{text}' is not a range of ticks such as 50-100")),
    }
}

/// Levels, or targets with their levels, separated by commas. The library takes any word for the name
/// of a target, and so would say nothing about a misspelt level.
pub(crate) fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let fits = |part: &str| {
        let (target, level) = part.split_once('=').unwrap_or(("balsa", part));
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
        let known = LEVELS.contains(&level.to_ascii_lowercase().as_str());
        known && !target.is_empty() && target.chars().all(plain)
    };
    match text.split(',').map(str::trim).find(|part| !fits(part)) {
        None => Ok(()),
        Some(part) => Err(format!(
            "'{part}' is neither a level ({}) nor a target with its level such as \
             balsa::rpc=debug",
            LEVELS.join(", ")
        )),
    }
}

/// The prefix and the ordinal of a seat's name: `raft-1` is `raft` and 1.
#[must_use]
pub fn ordinal(name: &str) -> Option<(&str, u64)> {
    let (prefix, digits) = name.rsplit_once('-')?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
        && !prefix.is_empty();
    if plain { digits.parse().ok().map(|number| (prefix, number)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("65536", 1), Ok(65536));
        assert_eq!(size("64MiB", 1), Ok(64 << 20));
        assert_eq!(size("1GiB", 1), Ok(1 << 30));
        assert_eq!(size("2KiB", 2048), Ok(2048));
        assert!(size("2KiB", 2049).unwrap_err().contains("the least is 2049 bytes"));
        for wrong in ["", "MiB", "64M", "64 MiB", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(size(wrong, 1).unwrap_err().contains("is not a size"), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        let seconds = Duration::from_secs(1);
        assert_eq!(duration("10ms", seconds), Ok(Duration::from_millis(10)));
        assert_eq!(duration("5", seconds), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m", seconds), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "1.5s", "5 s", "5d", "0", "0ms", "99999999999999999999s"] {
            assert!(duration(wrong, seconds).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for right in
            ["127.0.0.1:6000", "raft-0.raft-service.default.svc.cluster.local:1", "[::1]:9"]
        {
            assert_eq!(host_port(right).as_deref(), Ok(right));
        }
        for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "::1:5", "[x]:5", "a b:1"]
        {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host_ports("a:1, b:2").map(|list| list.len()), Ok(2));
        assert!(host_ports(",").is_err());
    }

    #[test]
    fn an_ordinal_is_a_plain_number_behind_the_last_dash() {
        assert_eq!(ordinal("raft-1"), Some(("raft", 1)));
        assert_eq!(ordinal("my-raft-10"), Some(("my-raft", 10)));
        for none in ["raft", "raft-", "raft-01", "-1", "raft-x", "raft-+1"] {
            assert_eq!(ordinal(none), None, "{none}");
        }
    }
}
