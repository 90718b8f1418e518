//! The reading half of a dialed connection: answers find their callers, and whatever else arrives, or
//! does not, may end it.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep};

use super::super::close::CloseReason;
use super::super::frame::{Item, Kind};
use super::super::hello::Purpose;
use super::super::silence::Listening;
use super::super::stream::Source;
use super::super::tls::{Verdict, Vigil, unix_now};
use super::{Answer, Shared};
use crate::codec::decode;

/// Reads answers until there is a reason to end.
pub(super) async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    source: &mut Source<R>,
    mut vigil: Vigil,
) -> CloseReason {
    let expires = vigil.expires();
    let mut verdict = pin!(vigil.verdict());
    let mut judged = false;
    // Only calls of clients may rightly wait for longer than a silence lasts.
    let mut listening = (shared.purpose == Purpose::Client).then(Listening::default);
    let tick = match listening {
        Some(_) => shared.limits.silence / Listening::LOOKS,
        None => shared.limits.frame / 4,
    };
    let tick = tick.max(Duration::from_millis(1));
    let mut watchdog = pin!(sleep(tick));
    loop {
        if let Err(reason) = deliver(shared, source) {
            return reason;
        }
        tokio::select! {
            biased;
            // First, or a node that is revoked could talk on and never be judged.
            verdict = &mut verdict, if !judged => match verdict {
                Verdict::Distrusted(reason, why) => return CloseReason::Distrusted(reason, why),
                Verdict::Renew => {
                    judged = true;
                    shared.stale.send_replace(true);
                }
            },
            filled = source.fill() => match filled {
                Ok(0) => return CloseReason::Ended,
                Ok(_) => shared.silence.heard(),
                Err(error) => return CloseReason::of_error(&error),
            },
            () = &mut watchdog => {
                watchdog.as_mut().reset(Instant::now() + tick);
                if source.is_slow(shared.limits.frame) {
                    return CloseReason::Stalled;
                }
                let waiting = || shared.calls().unanswered_bytes();
                if let Some(listening) = &mut listening
                    && listening.look(shared.silence.now(), waiting(), || shared.ask())
                {
                    return CloseReason::Silent(shared.limits.silence);
                }
                if expires.is_some_and(|end| unix_now() > end) {
                    return CloseReason::Expired;
                }
            }
        }
    }
}

/// Hands the answers that have arrived to their callers.
fn deliver<R: AsyncRead + Unpin>(
    shared: &Shared,
    source: &mut Source<R>,
) -> Result<(), CloseReason> {
    let violation = |what: String| CloseReason::Violation(what);
    let mut calls = None;
    loop {
        let item = source.frames.next_item().map_err(|error| violation(error.to_string()))?;
        let (head, body) = match item {
            None => break,
            Some(Item::Frame(head, body)) => (head, body),
            Some(Item::Oversize { head, bytes, max }) => {
                let kind = head.kind.word();
                return Err(violation(format!("a {kind} of {bytes} bytes, over {max}")));
            }
        };
        source.frame_ended();
        let answer = match head.kind {
            Kind::Reply => Answer::Reply(body),
            Kind::Refusal => Answer::Refusal(body),
            Kind::Close => {
                calls = None;
                let notice = decode(&body).map_err(|fault| violation(fault.to_string()))?;
                let reason = CloseReason::Announced(notice);
                let renewal = reason.is_renewal();
                shared.refuse_more(reason);
                if renewal {
                    shared.stale.send_replace(true);
                }
                continue;
            }
            other => return Err(violation(format!("a {} frame behind the hello", other.word()))),
        };
        if head.seq == 0 || head.seq >= shared.next.load(Ordering::Relaxed) {
            return Err(violation(format!("an answer to call {}, which was never made", head.seq)));
        }
        // One lock for all answers of one read.
        let calls = calls.get_or_insert_with(|| shared.calls());
        if let Some(waiting) = calls.waiting.remove(&head.seq) {
            // An error only says that the caller has just given up.
            let _ = waiting.caller.send(answer);
        }
    }
    drop(calls);
    source.settle();
    Ok(())
}
