//! What this node knows of its agreement with the others: the hashes of its content as of the newest
//! applied indexes, and whether a verdict forbids it to serve (S5).
//!
//! The applier writes it; the service answers audits from it, on another arbiter.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::codec::api::{Code, Refusal};
use crate::kv::History;
use crate::raft::Index;

/// See the module.
#[derive(Default)]
pub struct Agreement {
    history: Mutex<History>,
    noted: Notify,
    withheld: ArcSwapOption<Withheld>,
}

/// Why nothing is served.
#[derive(Debug)]
struct Withheld {
    why: Arc<str>,
    /// This node's content is not the majority's; it ends with the process.
    diverged: bool,
}

impl Agreement {
    /// Notes the content's hash as of each of these indexes, in order. Applier, after each batch, and
    /// once for the store it begins with.
    pub fn note(&self, hashes: &[(Index, u64)]) {
        let mut history = self.history();
        for (index, hash) in hashes {
            history.note(*index, *hash);
        }
        drop(history);
        self.noted.notify_waiters();
    }

    /// The newest applied index with its hash, kept for the verdict on it.
    #[must_use]
    pub fn newest(&self) -> Option<(Index, u64)> {
        let mut history = self.history();
        let last = history.last();
        history.ask(last).map(|hash| (last, hash))
    }

    /// The hash as of this index, for which it waits if it is not applied yet; none if it is forgotten,
    /// or not applied in time.
    pub async fn hash_at(&self, index: Index, patience: Duration) -> Option<u64> {
        let known = async {
            loop {
                let mut noted = pin!(self.noted.notified());
                // Listens before it looks, so that no wake-up falls between the two.
                noted.as_mut().enable();
                if let Some(answer) = self.look(index) {
                    return answer;
                }
                noted.await;
            }
        };
        timeout(patience, known).await.ok().flatten()
    }

    /// None: not applied yet.
    fn look(&self, index: Index) -> Option<Option<u64>> {
        let mut history = self.history();
        let hash = history.ask(index);
        (hash.is_some() || history.last() >= index).then_some(hash)
    }

    /// Hears the verdict on an index: the hash that a majority has, or none if there is no majority of
    /// equal ones. Returns whether this node has to start over, because its own content is not the
    /// majority's; whoever cannot tell, because it does not know that index, changes nothing.
    #[must_use]
    pub fn heed(&self, index: Index, majority: Option<u64>) -> bool {
        let former = self.withheld.load();
        if let Some(former) = &*former
            && former.diverged
        {
            // Equal again by chance, or not: what was served meanwhile was wrong.
            return true;
        }
        let Some(majority) = majority else {
            if former.is_none() {
                let why = format!(
                    "the nodes differ in their content as of entry {index}, and no majority of them \
                     agrees; nothing is served until one does"
                );
                tracing::error!("{why}");
                self.withheld.store(Some(Arc::new(Withheld { why: why.into(), diverged: false })));
            }
            return false;
        };
        let Some(own) = self.history().at(index) else { return false };
        if own == majority {
            if former.is_some() {
                tracing::info!(%index, "a majority has the same content as this node; it serves again");
                self.withheld.store(None);
            }
            return false;
        }
        let why = format!(
            "this node's content as of entry {index} is not that of the majority (hash {own:016x}, theirs \
             {majority:016x})"
        );
        tracing::error!("{why}; it serves nothing more, and starts over with a copy of theirs");
        self.withheld.store(Some(Arc::new(Withheld { why: why.into(), diverged: true })));
        true
    }

    /// Why nothing is served, if a verdict forbids it.
    #[must_use]
    pub fn withheld(&self) -> Option<Arc<str>> {
        self.withheld.load().as_ref().map(|withheld| Arc::clone(&withheld.why))
    }

    /// The refusal that says so.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.withheld().map(|why| Refusal::new(Code::Unavailable, &*why))
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn agreement() -> Agreement {
        let agreement = Agreement::default();
        agreement.note(&[(Index(1), 10), (Index(2), 20)]);
        agreement
    }

    #[tokio::test]
    async fn an_index_that_is_about_to_be_applied_is_waited_for() {
        let agreement = agreement();
        assert_eq!(agreement.hash_at(Index(2), SOON).await, Some(20));
        assert_eq!(agreement.hash_at(Index(0), SOON).await, None, "before its history");
        let mut waiting = Box::pin(agreement.hash_at(Index(4), SOON));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        agreement.note(&[(Index(3), 30)]);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        agreement.note(&[(Index(4), 40), (Index(5), 50)]);
        assert_eq!(waiting.await, Some(40));
        let mut passed_over = Box::pin(agreement.hash_at(Index(7), SOON));
        assert_eq!(passed_over.as_mut().now_or_never(), None);
        agreement.note(&[(Index(9), 90)]);
        assert_eq!(passed_over.await, None, "a snapshot went past it");
        assert_eq!(agreement.hash_at(Index(10), Duration::ZERO).await, None, "not in time");
    }

    #[test]
    fn without_a_majority_nothing_is_served_until_there_is_one() {
        let agreement = agreement();
        assert!(!agreement.heed(Index(2), Some(20)));
        assert_eq!(agreement.withheld(), None);
        assert!(!agreement.heed(Index(2), None));
        let refusal = agreement.refusal().expect("withheld");
        assert_eq!(refusal.code, Code::Unavailable);
        assert!(refusal.message.contains("no majority"), "{refusal}");
        assert!(!agreement.heed(Index(7), Some(70)), "an index it does not know");
        assert!(agreement.withheld().is_some());
        assert!(!agreement.heed(Index(2), Some(20)));
        assert_eq!(agreement.withheld(), None);
    }

    #[test]
    fn whoever_differs_from_the_majority_starts_over_and_serves_nothing_more() {
        let agreement = agreement();
        assert!(!agreement.heed(Index(2), None));
        assert!(agreement.heed(Index(2), Some(21)));
        let why = agreement.withheld().expect("withheld");
        assert!(why.contains("entry 2") && why.contains("0000000000000015"), "{why}");
        // Neither agreement by chance nor another verdict brings it back.
        for (index, majority) in [(1, Some(10)), (2, Some(20)), (2, None), (7, Some(70))] {
            assert!(agreement.heed(Index(index), majority));
            assert_eq!(agreement.withheld().as_deref(), Some(&*why));
        }
    }

    #[test]
    fn what_was_asked_for_is_known_when_the_verdict_comes_however_much_was_applied_since() {
        let agreement = agreement();
        assert_eq!(agreement.newest(), Some((Index(2), 20)));
        let more: Vec<_> = (3..20_000).map(|index| (Index(index), index)).collect();
        agreement.note(&more);
        assert!(agreement.heed(Index(2), Some(21)));
    }
}
