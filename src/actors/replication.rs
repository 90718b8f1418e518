//! `Node.Replication` (mission S5): one page of the log and one of the store, for people and for
//! comparisons between nodes.

use crate::codec;
use crate::codec::api::{Code, LogLine, Refusal, ReplicationArgs, ReplicationReply};
use crate::kv::limits;
use crate::raft::{Index, NodeStatus};
use crate::storage::StorageError;

use super::applier::key_value;
use super::log_source::LogSource;
use super::standing::Standing;

/// Entries of the log, and of the store, in one page at most.
const PAGE_MAX: u32 = 1000;

/// Bytes of the log in one page; the store's page has [`limits::PAGE_BYTES_MAX`].
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Answers one request; none if the log has been purged since `status` was true, so that it must be asked
/// again.
///
/// # Errors
/// If the log cannot be read.
pub async fn page(
    standing: &Standing,
    log: &LogSource,
    status: &NodeStatus,
    args: &ReplicationArgs,
) -> Result<Option<ReplicationReply>, Refusal> {
    let limit = if args.limit == 0 { PAGE_MAX } else { args.limit.min(PAGE_MAX) };
    let first = status.first;
    let from = Index(args.from).max(first);
    let upto = last_of_page(from, limit, status.persisted);
    let mut lines = Vec::new();
    if from <= upto {
        let entries = match log.read(from.prev(), upto, LOG_BYTES_MAX).await {
            Ok(entries) => entries,
            Err(StorageError::OutOfRange { .. }) => return Ok(None),
            Err(error) => {
                let message = format!("the log cannot be read: {error}");
                return Err(Refusal::new(Code::Unavailable, message));
            }
        };
        lines.extend(entries.iter().map(|entry| LogLine {
            index: entry.id.index,
            term: entry.id.term,
            content: codec::log_content(&entry.payload),
        }));
    }
    let next = lines.last().map_or(from, |line| line.index.next());
    let content = standing.content();
    let (entries, next_key) =
        content.view.range(&args.store_from, None, limit as usize, limits::PAGE_BYTES_MAX);
    Ok(Some(ReplicationReply {
        name: standing.own.name.clone(),
        first_index: first,
        last_index: status.persisted,
        next_index: (!lines.is_empty() && next <= status.persisted).then_some(next),
        log: lines,
        store: entries.into_iter().map(|(key, entry)| key_value(key, &entry)).collect(),
        next_key,
        applied_index: content.view.applied(),
    }))
}

/// Where a page that begins at `from` ends at the latest; `from` is whatever the caller wants.
fn last_of_page(from: Index, limit: u32, persisted: Index) -> Index {
    Index(from.0.saturating_add(u64::from(limit)).saturating_sub(1)).min(persisted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_be_asked_for_from_anywhere() {
        let last = |from, limit| last_of_page(Index(from), limit, Index(50)).0;
        assert_eq!(last(0, 10), 9);
        assert_eq!(last(11, 10), 20);
        assert_eq!(last(45, 10), 50);
        assert_eq!(last(u64::MAX, 1000), 50, "which is before its beginning: an empty page");
    }
}
