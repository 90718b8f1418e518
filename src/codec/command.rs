//! How commands look on the wire and in the log: the arguments of `Kv.Write` and `Kv.OpenSession`
//! are proposed byte for byte, so that a value is not encoded anew between the network and the
//! disk.
//!
//! ```text
//! {"open_session": {}}
//! {"write": {"session": 7, "serial": 1, "below": 1, "op": {"put": {"key": …, "value": …}}}}
//!                                                   {"delete": {"key": …}}
//!                                                   {"cas": {"key": …, "expected": …, "value": …}}
//! ```
//!
//! `expected` is absent if the key must not exist. An unknown field is skipped. An unknown command
//! or operation is an error: refused by a server, and `Outcome::Rejected` in the log.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::api::{Code, LogContent, Refusal};
use super::msgpack::{DecodeError, decode_shared, encode_sized};
use super::shared;
use crate::kv::command::{Command, Operation, Write};
use crate::kv::limits::{REQUEST_BYTES_MAX, Violation, check_key, check_operation};
use crate::raft::Payload;

/// What a command takes besides its keys and values, bytes, at most.
const OVERHEAD: usize = 128;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireCommand {
    OpenSession {},
    Write { session: u64, serial: u64, below: u64, op: WireOperation },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireOperation {
    Put {
        #[serde(with = "shared")]
        key: Bytes,
        #[serde(with = "shared")]
        value: Bytes,
    },
    Delete {
        #[serde(with = "shared")]
        key: Bytes,
    },
    Cas {
        #[serde(with = "shared")]
        key: Bytes,
        #[serde(default, with = "shared::optional", skip_serializing_if = "Option::is_none")]
        expected: Option<Bytes>,
        #[serde(with = "shared")]
        value: Bytes,
    },
}

/// The bytes of a command, as a client sends and the log keeps them.
#[must_use]
pub fn encode_command(command: &Command) -> Bytes {
    let wire = match command {
        Command::OpenSession => WireCommand::OpenSession {},
        Command::Write(Write { session, serial, answered_below, operation }) => {
            WireCommand::Write {
                session: *session,
                serial: *serial,
                below: *answered_below,
                op: WireOperation::from(operation.clone()),
            }
        }
    };
    encode_sized(&wire, OVERHEAD + size(command))
}

/// Decodes a command. Its keys and values are slices of `bytes`.
///
/// # Errors
/// If the bytes hold no command this version understands.
pub fn decode_command(bytes: &Bytes) -> Result<Command, DecodeError> {
    Ok(match decode_shared(bytes)? {
        WireCommand::OpenSession {} => Command::OpenSession,
        WireCommand::Write { session, serial, below, op } => {
            Command::Write(Write { session, serial, answered_below: below, operation: op.into() })
        }
    })
}

/// What a server does with the arguments of `Kv.Write` and `Kv.OpenSession` before it proposes
/// them: checks the size, decodes, and [`validate`]s.
///
/// # Errors
/// A refusal for the client: [`Code::TooLarge`] or [`Code::BadRequest`].
pub fn admit_command(bytes: &Bytes) -> Result<Command, Refusal> {
    if bytes.len() > REQUEST_BYTES_MAX {
        let message =
            format!("the request has {} bytes, the limit is {REQUEST_BYTES_MAX}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, message));
    }
    let command = decode_command(bytes)?;
    validate(&command)?;
    Ok(command)
}

/// Checks a command against the limits, each of which it names. Whether the session exists and the
/// serial is within its window is the store's business.
///
/// # Errors
/// A refusal for the client: [`Code::TooLarge`] or [`Code::BadRequest`].
pub fn validate(command: &Command) -> Result<(), Refusal> {
    let Command::Write(write) = command else { return Ok(()) };
    check_operation(&write.operation)?;
    let problem = if write.serial == 0 {
        "serials begin at 1".to_owned()
    } else if write.answered_below > write.serial {
        format!(
            "the write with serial {} says that all serials below {} are answered, itself included",
            write.serial, write.answered_below
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(Code::BadRequest, problem))
}

/// Checks the key of a read.
///
/// # Errors
/// A refusal for the client: [`Code::TooLarge`] or [`Code::BadRequest`].
pub fn validate_key(key: &[u8]) -> Result<(), Refusal> {
    Ok(check_key(key)?)
}

/// What an entry carries, for `Node.Replication`.
#[must_use]
pub fn log_content(payload: &Payload) -> LogContent {
    match payload {
        Payload::Noop => LogContent::Noop,
        Payload::Membership(membership) => {
            let mut names: Vec<String> =
                membership.members.values().map(|member| member.name.clone()).collect();
            names.sort();
            LogContent::Membership { names }
        }
        Payload::Command(bytes) => match decode_command(bytes) {
            Err(_) => LogContent::Other,
            Ok(Command::OpenSession) => LogContent::Session,
            Ok(Command::Write(write)) => match write.operation {
                Operation::Put { key, value } => LogContent::Put { key, value },
                Operation::Delete { key } => LogContent::Delete { key },
                Operation::Cas { key, expected, value } => LogContent::Cas { key, expected, value },
            },
        },
    }
}

fn size(command: &Command) -> usize {
    match command {
        Command::OpenSession => 0,
        Command::Write(write) => match &write.operation {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
            Operation::Cas { key, expected, value } => {
                key.len() + expected.as_ref().map_or(0, Bytes::len) + value.len()
            }
        },
    }
}

impl From<Operation> for WireOperation {
    fn from(operation: Operation) -> WireOperation {
        match operation {
            Operation::Put { key, value } => WireOperation::Put { key, value },
            Operation::Delete { key } => WireOperation::Delete { key },
            Operation::Cas { key, expected, value } => WireOperation::Cas { key, expected, value },
        }
    }
}

impl From<WireOperation> for Operation {
    fn from(wire: WireOperation) -> Operation {
        match wire {
            WireOperation::Put { key, value } => Operation::Put { key, value },
            WireOperation::Delete { key } => Operation::Delete { key },
            WireOperation::Cas { key, expected, value } => Operation::Cas { key, expected, value },
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::new(Code::BadRequest, format!("the arguments cannot be decoded: {error}"))
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Refusal {
        let code = match violation {
            Violation::KeyEmpty => Code::BadRequest,
            Violation::KeyTooLong { .. } | Violation::ValueTooLong { .. } => Code::TooLarge,
        };
        Refusal::new(code, violation.to_string())
    }
}
