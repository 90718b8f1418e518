//! One accepted connection, from its hello's acknowledgement to its end.
//!
//! One task reads and writes. All frames that one read brought are judged and handed to the service
//! as one batch; answers come back through the outbox from any thread. The reader stops reading when
//! too many calls are in flight or too many bytes wait to be written, and TCP tells the peer.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::call::{Call, Peer, Responder};
use super::close::{CloseCode, CloseNotice, CloseReason};
use super::frame::{Head, Item, Kind, Named};
use super::refusals::Reason;
use super::server::Shared;
use super::stream::Source;
use super::tls::{Verdict, Vigil, unix_now};
use super::wire;
use crate::codec::api::{Code, Refusal};
use crate::codec::msgpack::{DEPTH_MAX, check, decode};

/// How reading ended.
enum End {
    /// For a reason of the peer's or the transport's.
    Closed(CloseReason),
    /// Because this side wants it; calls in flight are still answered.
    Leaving(CloseNotice),
}

/// Serves the connection until it ends. The vigil is kept over the peer's certificate.
pub(super) async fn run<R, W>(
    shared: &Shared,
    peer: &Arc<Peer>,
    mut source: Source<R>,
    mut writer: W,
    vigil: Vigil,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let link = &peer.link;
    let limits = &shared.limits;
    {
        let mut writing =
            pin!(link.outbox.write_to(&mut writer, limits.write_stall, || link.progress()));
        let ended = tokio::select! {
            biased;
            ended = read(shared, peer, &mut source, vigil) => ended,
            written = &mut writing => {
                // Half a frame may be out: nothing can be said on this stream any more (A4).
                let reason = written.map_or_else(|e| CloseReason::of_error(&e), |()| CloseReason::Local);
                report(shared, peer, &reason);
                return;
            }
        };
        let (notice, patience) = match ended {
            End::Leaving(notice) => (Some(notice), limits.drain),
            End::Closed(reason) => {
                report(shared, peer, &reason);
                (reason.notice(), Duration::from_secs(1))
            }
        };
        let leaving = notice.is_some();
        if let Some(notice) = notice {
            say(peer, &notice);
        }
        // Whatever cannot be written now is lost with the connection; its callers know.
        let _ = timeout(patience, async {
            if leaving {
                tokio::select! {
                    () = link.wait_until(|link| link.inflight() == 0) => {}
                    _ = &mut writing => return,
                }
            }
            link.outbox.end();
            let _ = writing.await;
        })
        .await;
    }
    source.linger().await;
}

/// Queues a close frame.
fn say(peer: &Peer, notice: &CloseNotice) {
    let head = Head::plain(Kind::Close, 0);
    let pushed = wire::encode(notice, |body| peer.link.outbox.push(&head, body));
    debug_assert!(pushed.is_ok(), "a notice always encodes");
}

/// Says in the log what a peer did wrong; an ordinary end is no news.
fn report(shared: &Shared, peer: &Peer, reason: &CloseReason) {
    let kind = match reason {
        CloseReason::Violation(_) => Reason::Violation,
        CloseReason::Stalled | CloseReason::Silent(_) => Reason::Slow,
        CloseReason::Expired => Reason::Expired,
        CloseReason::Distrusted(reason, _) => *reason,
        CloseReason::Local
        | CloseReason::Announced(_)
        | CloseReason::Ended
        | CloseReason::Failed(_)
        | CloseReason::Alert(..) => return,
    };
    shared.refuse(peer.address, kind, &format!("the connection of {}: {reason}", peer.identity));
}

/// Reads until there is a reason to end.
async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    peer: &Arc<Peer>,
    source: &mut Source<R>,
    mut vigil: Vigil,
) -> End {
    let limits = &shared.limits;
    let link = &peer.link;
    // Deadlines are looked at every now and then instead of one timer being set for each read; they
    // are kept to within a quarter.
    let tick = (limits.frame.min(limits.idle) / 4).max(Duration::from_millis(1));
    let mut watchdog = pin!(sleep(tick));
    let mut stopped = pin!(shared.stop.requested());
    let mut close = pin!(link.close_requested());
    let expires = vigil.expires();
    let mut verdict = pin!(vigil.verdict());
    // Once the peer has been asked to connect anew it still has this long to send what it had begun,
    // and to close: so no call is lost.
    let mut renewed = pin!(sleep(Duration::MAX));
    let mut renewing = false;
    loop {
        let more = match hand_out(shared, peer, source) {
            Ok(more) => more,
            Err(reason) => return End::Closed(reason),
        };
        let full = more || link.outbox.queued() > limits.queued_pause;
        let room = async {
            if full {
                link.wait_until(|link| {
                    link.has_room() && link.outbox.queued() <= limits.queued_pause
                })
                .await;
            } else {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = room => {}
            // Before what the peer sends, or one that is revoked could talk on and never be judged.
            verdict = &mut verdict, if !renewing => match verdict {
                Verdict::Distrusted(reason, why) => {
                    return End::Closed(CloseReason::Distrusted(reason, why));
                }
                Verdict::Renew => {
                    say(peer, &renewal());
                    renewing = true;
                    renewed.as_mut().reset(tokio::time::Instant::now() + limits.drain);
                }
            },
            filled = source.fill(), if !full => match filled {
                Ok(0) => return End::Closed(CloseReason::Ended),
                Ok(_) => {}
                Err(error) => return End::Closed(CloseReason::of_error(&error)),
            },
            notice = &mut close => return End::Leaving(notice),
            () = &mut stopped => return End::Leaving(CloseNotice {
                code: CloseCode::Stopping,
                message: "this node is stopping".to_owned(),
            }),
            () = &mut renewed, if renewing => return End::Leaving(renewal()),
            () = &mut watchdog => {
                watchdog.as_mut().reset(tokio::time::Instant::now() + tick);
                if !full && source.is_slow(limits.frame) {
                    return End::Closed(CloseReason::Stalled);
                }
                if expires.is_some_and(|end| unix_now() > end) {
                    return End::Closed(CloseReason::Expired);
                }
                if link.inflight() == 0 && source.received.elapsed() > limits.idle {
                    let seconds = limits.idle.as_secs();
                    return End::Leaving(CloseNotice {
                        code: CloseCode::Idle,
                        message: format!("nothing was asked for {seconds} s"),
                    });
                }
            }
        }
    }
}

/// What a peer is told that holds our former certificate.
fn renewal() -> CloseNotice {
    let message = "this node has a new certificate; connect anew".to_owned();
    CloseNotice { code: CloseCode::Renew, message }
}

/// Judges the frames that have arrived and hands the calls among them to the service. True: there may
/// be more, but the calls in flight have reached their limit.
fn hand_out<R: AsyncRead + Unpin>(
    shared: &Shared,
    peer: &Arc<Peer>,
    source: &mut Source<R>,
) -> Result<bool, CloseReason> {
    let now = Instant::now();
    let mut calls = Vec::new();
    let outcome = loop {
        if !peer.link.has_room() {
            break Ok(true);
        }
        match source.frames.next_item() {
            Ok(Some(item)) => {
                source.frame_ended();
                match judge(shared, peer, item, source.received, now) {
                    Ok(Some(call)) => calls.push(call),
                    Ok(None) => {}
                    Err(reason) => break Err(reason),
                }
            }
            Ok(None) => break Ok(false),
            Err(error) => break Err(CloseReason::Violation(error.to_string())),
        }
    };
    source.settle();
    if !calls.is_empty() {
        shared.service.dispatch(peer, calls);
    }
    outcome
}

/// What becomes of one frame: a call, a refusal already queued, or the connection's end.
fn judge(
    shared: &Shared,
    peer: &Arc<Peer>,
    item: Item,
    received: Instant,
    now: Instant,
) -> Result<Option<Call>, CloseReason> {
    let (head, body) = match item {
        Item::Frame(head, body) => (head, Ok(body)),
        Item::Oversize { head, bytes, max } => (head, Err((bytes, max))),
    };
    match head.kind {
        Kind::Request => {}
        Kind::Close => {
            let said = body.ok().and_then(|body| decode(&body).ok());
            return Err(said.map_or(CloseReason::Ended, CloseReason::Announced));
        }
        other => {
            return Err(CloseReason::Violation(format!(
                "a {} frame does not belong behind the hello",
                other.word()
            )));
        }
    }
    match request(peer, &head, body, received, now) {
        Ok(call) => Ok(Some(call)),
        Err(refusal) => {
            if refusal.code == Code::Denied {
                let sentence = format!("a call of {}: {}", peer.identity, refusal.message);
                shared.refuse(peer.address, Reason::Denied, &sentence);
            }
            let method = if let Named::Known(method) = head.method { Some(method) } else { None };
            peer.link.meter.turned_away(method, refusal.code);
            peer.link.refuse(head.seq, &refusal);
            Ok(None)
        }
    }
}

/// The call that a request makes, or why it is refused; authority first.
fn request(
    peer: &Arc<Peer>,
    head: &Head,
    body: Result<Bytes, (usize, usize)>,
    received: Instant,
    now: Instant,
) -> Result<Call, Refusal> {
    let method = match &head.method {
        Named::Known(method) => *method,
        Named::Unknown(name) => {
            let message = format!("there is no method {name} in this version");
            return Err(Refusal::new(Code::UnknownMethod, message));
        }
        Named::Nothing => {
            return Err(Refusal::new(Code::BadRequest, "the request names no method"));
        }
    };
    peer.authorize(method)?;
    let args = body.map_err(|(bytes, max)| {
        let message = format!("the arguments of {method} have {bytes} bytes; the limit is {max}");
        Refusal::new(Code::TooLarge, message)
    })?;
    let deadline = received + Duration::from_millis(u64::from(head.timeout_ms));
    if deadline <= now {
        let message = format!("the deadline of {method} passed before it was begun");
        return Err(Refusal::new(Code::DeadlineExceeded, message));
    }
    check(&args, DEPTH_MAX).map_err(|fault| {
        let message = format!("the arguments of {method} are refused: {fault}");
        Refusal::new(Code::BadRequest, message)
    })?;
    let reply = Responder::new(peer.link.clone(), head.seq, method, received);
    Ok(Call { method, args, deadline, reply })
}
