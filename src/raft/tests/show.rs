//! How things look in a trace.

use super::super::message::{AppendReply, InstallReply, VoteReply};
use super::super::{
    ChangeRefusal, Entry, Envelope, Index, LogId, Membership, Message, NodeId, Payload, Persist,
    ReadToken, Refusal, Seen, SoftState, TransferRefusal,
};

pub(super) fn node(id: NodeId) -> String {
    format!("n{}", id.0)
}

fn someone(id: Option<NodeId>) -> String {
    id.map_or_else(|| "nobody".to_owned(), node)
}

pub(super) fn soft(id: NodeId, soft: SoftState) -> String {
    format!("{} is {} in term {}, leader {}", node(id), soft.role, soft.term, someone(soft.leader))
}

pub(super) fn seen(by: NodeId, of: NodeId, seen: Seen) -> String {
    let Seen { boot, term, acknowledged } = seen;
    let (by, of) = (node(by), node(of));
    format!("{by} has seen {of} in boot {boot}, term {term}, with index {acknowledged}")
}

pub(super) fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Noop => format!("{} noop", entry.id),
        Payload::Command(bytes) => format!("{} {}", entry.id, String::from_utf8_lossy(bytes)),
        Payload::Membership(_) => format!("{} membership", entry.id),
    }
}

fn entries(entries: &[Entry]) -> String {
    let shown: Vec<String> = entries.iter().map(entry).collect();
    format!("[{}]", shown.join(", "))
}

pub(super) fn batch(id: NodeId, batch: &Persist) -> String {
    let mut line = format!("{} disk #{}:", node(id), batch.token.0);
    if let Some(state) = batch.hard_state {
        line += &format!(" term {} vote {}", state.term, someone(state.vote));
    }
    if let Some(snapshot) = &batch.install {
        line += &format!(" install {}", snapshot.last);
    }
    if let Some(after) = batch.truncate_after {
        line += &format!(" truncate after {after}");
    }
    if !batch.entries.is_empty() {
        line += &format!(" append {}", entries(&batch.entries));
    }
    line
}

pub(super) fn refusal(why: Refusal) -> String {
    match why {
        Refusal::NotLeader { leader } => format!("not the leader, {} leads", someone(leader)),
        Refusal::Busy => "busy".to_owned(),
        Refusal::NoSpace => "no space".to_owned(),
        Refusal::Transferring { to } => format!("hands over to {}", node(to)),
    }
}

fn several<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> String {
    ids.into_iter().map(|id| node(*id)).collect::<Vec<_>>().join(" ")
}

pub(super) fn membership(id: NodeId, membership: &Membership) -> String {
    let mut line = format!("{} now counts on {}", node(id), several(&membership.voters));
    if membership.is_joint() {
        line += &format!(" and {}", several(&membership.outgoing));
    }
    let learners = || membership.members.keys().filter(|id| !membership.is_voter(**id));
    if learners().next().is_some() {
        line += &format!(", learners {}", several(learners()));
    }
    if !membership.retired.is_empty() {
        let names: Vec<&str> = membership.retired.iter().map(String::as_str).collect();
        line += &format!(", retired {}", names.join(" "));
    }
    line
}

pub(super) fn change(id: NodeId, result: Result<LogId, ChangeRefusal>) -> String {
    match result {
        Ok(first) => format!("{} changes the members from {first}", node(id)),
        Err(why) => format!("{} does not change the members: {}", node(id), change_refusal(why)),
    }
}

fn change_refusal(why: ChangeRefusal) -> String {
    match why {
        ChangeRefusal::NotLeader { leader } => {
            format!("not the leader, {} leads", someone(leader))
        }
        ChangeRefusal::NotReady => "nothing of the term is committed".to_owned(),
        ChangeRefusal::UnderWay { index } => format!("that of {index} is under way"),
        ChangeRefusal::Transferring { to } => format!("it hands over to {}", node(to)),
        ChangeRefusal::Unknown { id } => format!("no member {}", node(id)),
        ChangeRefusal::AlreadyMember => "a member already".to_owned(),
        ChangeRefusal::AlreadyVoter => "a voter already".to_owned(),
        ChangeRefusal::NotVoter { id } => format!("{} is no voter", node(id)),
        ChangeRefusal::SeatTaken { holder } => format!("{} holds the seat", node(holder)),
        ChangeRefusal::OtherSeat => "not of the same seat".to_owned(),
        ChangeRefusal::LastVoter => "the last voter".to_owned(),
        ChangeRefusal::Behind { matched, last } => format!("it has {matched} of {last}"),
        ChangeRefusal::Silent => "it is silent".to_owned(),
        ChangeRefusal::NoQuorum => "no quorum would be left".to_owned(),
    }
}

pub(super) fn transfer(id: NodeId, to: NodeId, result: Result<(), TransferRefusal>) -> String {
    let why = match result {
        Ok(()) => return format!("{} hands over to {}", node(id), node(to)),
        Err(TransferRefusal::NotLeader { leader }) => {
            format!("not the leader, {} leads", someone(leader))
        }
        Err(TransferRefusal::ToItself) => "it leads already".to_owned(),
        Err(TransferRefusal::Unknown) => "no such member".to_owned(),
        Err(TransferRefusal::NotVoter) => "not a voter".to_owned(),
        Err(TransferRefusal::UnderWay { to }) => format!("it hands over to {}", node(to)),
    };
    format!("{} does not hand over to {}: {why}", node(id), node(to))
}

pub(super) fn read(id: NodeId, token: ReadToken, result: Result<Index, Refusal>) -> String {
    match result {
        Ok(index) => format!("{} read r{} at index {index}", node(id), token.0),
        Err(why) => format!("{} read r{} refused: {}", node(id), token.0, refusal(why)),
    }
}

pub(super) fn envelope(envelope: &Envelope) -> String {
    let way = format!("{}→{} t{}", node(envelope.from), node(envelope.to), envelope.term);
    let what = match &envelope.message {
        Message::Vote(vote) => {
            let kind = if vote.pre { "pre-vote?" } else { "vote?" };
            let transfer = if vote.transfer { ", by transfer" } else { "" };
            format!("{kind} for term {}, last {}{transfer}", vote.campaign, vote.last)
        }
        Message::VoteReply(VoteReply { pre, campaign, granted, .. }) => {
            let kind = if *pre { "pre-vote" } else { "vote" };
            let answer = if *granted { "granted" } else { "refused" };
            format!("{kind} {answer} for term {campaign}")
        }
        Message::Append(append) => format!(
            "append behind {}: {}, commit {}",
            append.base,
            entries(&append.entries),
            append.commit
        ),
        Message::AppendReply(AppendReply::Accepted { matched }) => {
            format!("accepted up to {matched}")
        }
        Message::AppendReply(AppendReply::Conflict { base, hint }) => {
            format!("conflict at {base}, hint {hint}")
        }
        Message::Heartbeat(beat) => {
            format!("heartbeat commit {}, round {}", beat.commit, beat.round.0)
        }
        Message::HeartbeatReply(reply) => format!("heartbeat heard, round {}", reply.round.0),
        Message::TimeoutNow(_) => "campaign now".to_owned(),
        Message::TimeoutNowReply(reply) if reply.campaigns => "campaigns".to_owned(),
        Message::TimeoutNowReply(_) => "does not campaign".to_owned(),
        Message::Install(install) => format!("snapshot {}", install.snapshot.last),
        Message::InstallReply(InstallReply::Installed { matched }) => {
            format!("installed up to {matched}")
        }
        Message::InstallReply(InstallReply::Refused) => "snapshot refused".to_owned(),
    };
    format!("{way} {what}")
}
