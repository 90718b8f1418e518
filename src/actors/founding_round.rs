//! One round of asking before a founding: every seat of the seed list at its address, and whoever else is
//! behind the service's name, so that a cluster under other seats is heard.
//!
//! A seat's address must answer with that seat's certificate; behind the service any node of our own
//! certificate's cluster is heard, under the name in its certificate. An address of a seat that has
//! answered is not asked twice. Nothing here decides anything: the core gets all answers, and all silence
//! that may hide a member.
//!
//! What when full? Of a service with more than [`OTHERS_MAX`] further addresses another part is asked in each
//! round, and the rest counts as silent. No such service is that of one cluster alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::{join, join_all};

use crate::raft::founding::{Answer, AskRound, Asked, Seed};
use crate::rpc::Dialer;

use super::inquirer::{Inquirer, NoAnswer, PATIENCE};

/// Addresses behind the service that are asked in one round, besides the seats'.
const OTHERS_MAX: usize = 64;

/// Whom to ask. Clones share everything.
#[derive(Clone)]
pub struct Rounds {
    seeds: Arc<[Seed]>,
    service: Option<Arc<str>>,
    dialer: Arc<Dialer>,
    inquirer: Inquirer,
}

/// What the first half of a round has found out about a seat.
struct Seat {
    name: String,
    is_own: bool,
    answer: Result<Answer, String>,
    addresses: Vec<SocketAddr>,
}

impl Rounds {
    /// Rounds over these seats, and over the service with its port, if there is one.
    #[must_use]
    pub fn new(
        seeds: Vec<Seed>,
        service: Option<&str>,
        dialer: Arc<Dialer>,
        inquirer: Inquirer,
    ) -> Rounds {
        Rounds { seeds: seeds.into(), service: service.map(Arc::from), dialer, inquirer }
    }

    /// The seed list.
    #[must_use]
    pub fn seeds(&self) -> &[Seed] {
        &self.seeds
    }

    /// Asks everybody; `own` is this node's answer, which needs no connection.
    pub async fn ask(self, own: Answer, round: AskRound) -> Vec<Asked> {
        let seats = self.seeds.iter().map(|seed| self.ask_seat(seed, &own));
        let (seats, behind) = join(join_all(seats), self.behind_service()).await;
        let (others, left_out) = match &behind {
            Ok(found) => others(found, &seats, round),
            Err(_) => (Vec::new(), 0),
        };
        let asking = others.iter().map(|address| self.inquirer.ask_address(*address));
        let answers: Vec<_> = others.iter().copied().zip(join_all(asking).await).collect();
        report(seats, answers, behind.err().or_else(|| self.too_many(left_out)))
    }

    async fn ask_seat(&self, seed: &Seed, own: &Answer) -> Seat {
        let is_own = seed.name == own.name;
        let asked = async {
            match is_own {
                true => Ok(own.clone()),
                false => self.inquirer.ask(&seed.name, &seed.address).await,
            }
        };
        // The second question of one name shares the lookup of the first.
        let resolved = async {
            match self.service {
                Some(_) => self.dialer.resolve(&seed.address, PATIENCE).await.unwrap_or_default(),
                None => Vec::new(),
            }
        };
        let (answer, addresses) = join(asked, resolved).await;
        let answer = answer.map_err(|why| why.to_string());
        Seat { name: seed.name.clone(), is_own, answer, addresses }
    }

    /// The addresses behind the service, or why they are not known.
    async fn behind_service(&self) -> Result<Vec<SocketAddr>, String> {
        match &self.service {
            Some(service) => {
                self.dialer.resolve(service, PATIENCE).await.map_err(|error| error.to_string())
            }
            None => Ok(Vec::new()),
        }
    }

    fn too_many(&self, left_out: usize) -> Option<String> {
        let service = self.service.as_deref().filter(|_| left_out > 0)?;
        Some(format!(
            "{service} has {left_out} addresses more than are asked at once; name the headless service \
             of these nodes alone"
        ))
    }
}

/// The addresses behind the service that are still to be asked in this round, and how many are left out.
fn others(behind: &[SocketAddr], seats: &[Seat], round: AskRound) -> (Vec<SocketAddr>, usize) {
    let mut others: BTreeSet<SocketAddr> = behind.iter().copied().collect();
    for seat in seats.iter().filter(|seat| !seat.is_own && seat.answer.is_ok()) {
        // Of several addresses it is not known which one answered.
        if let [only] = seat.addresses[..] {
            others.remove(&only);
        }
    }
    let mut others: Vec<SocketAddr> = others.into_iter().collect();
    let left_out = others.len().saturating_sub(OTHERS_MAX);
    if left_out > 0 {
        let turn = round.0.wrapping_mul(OTHERS_MAX as u64) % others.len() as u64;
        others.rotate_left(usize::try_from(turn).unwrap_or_default());
        others.truncate(OTHERS_MAX);
    }
    (others, left_out)
}

/// What the core is told. `unknown`: why it is not known who is behind the service.
fn report(
    seats: Vec<Seat>,
    others: Vec<(SocketAddr, Result<Answer, NoAnswer>)>,
    unknown: Option<String>,
) -> Vec<Asked> {
    let of_seats: BTreeSet<SocketAddr> =
        seats.iter().flat_map(|seat| seat.addresses.iter().copied()).collect();
    let seats = seats.into_iter().map(|seat| Asked { seat: Some(seat.name), result: seat.answer });
    let others = others.into_iter().filter_map(|(address, answer)| match answer {
        Ok(answer) => Some(Ok(answer)),
        Err(NoAnswer::SomebodyElse(_)) => None,
        // A seat's silence is the seat's, and said there.
        Err(NoAnswer::Silence(_)) if of_seats.contains(&address) => None,
        Err(NoAnswer::Silence(why)) => Some(Err(why)),
    });
    let others = others.chain(unknown.map(Err)).map(|result| Asked { seat: None, result });
    seats.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Boot, ClusterId, NodeId};

    fn answer(name: &str) -> Answer {
        Answer {
            name: name.to_owned(),
            node_id: NodeId(7),
            boot: Boot(1),
            address: format!("{name}.svc:1"),
            seeds: Vec::new(),
            cluster_id: Some(ClusterId(3)),
            holds: None,
        }
    }

    fn at(place: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, place], 6000))
    }

    fn seat(name: &str, answers: bool, places: &[u8]) -> Seat {
        let answer = if answers { Ok(answer(name)) } else { Err("silent".to_owned()) };
        let addresses = places.iter().copied().map(at).collect();
        Seat { name: name.to_owned(), is_own: name == "raft-0", answer, addresses }
    }

    #[test]
    fn an_address_is_not_asked_again_when_its_seat_has_answered_there() {
        let seats =
            [seat("raft-0", true, &[1]), seat("raft-1", true, &[2]), seat("raft-2", false, &[3])];
        let (asked, left_out) = others(&[at(4), at(3), at(2), at(1)], &seats, AskRound(9));
        assert_eq!((asked, left_out), (vec![at(1), at(3), at(4)], 0));
        let moved = [seat("raft-1", true, &[2, 3])];
        let (asked, _) = others(&[at(2), at(3)], &moved, AskRound(9));
        assert_eq!(asked, [at(2), at(3)], "one of them may be another node's");
    }

    #[test]
    fn of_too_many_addresses_each_gets_its_turn_and_it_is_said() {
        let behind: Vec<SocketAddr> = (0..200).map(at).collect();
        let mut heard = BTreeSet::new();
        for round in 0..4 {
            let (asked, left_out) = others(&behind, &[], AskRound(round));
            assert_eq!((asked.len(), left_out), (OTHERS_MAX, 200 - OTHERS_MAX));
            heard.extend(asked);
        }
        assert_eq!(heard.len(), 200);
    }

    #[test]
    fn the_core_hears_every_answer_and_every_silence_that_may_hide_a_member() {
        let seats = vec![seat("raft-0", true, &[1]), seat("raft-1", false, &[2])];
        let silence = || Err(NoAnswer::Silence("no answer".to_owned()));
        let others = vec![
            (at(1), silence()),
            (at(2), Ok(answer("raft-7"))),
            (at(3), silence()),
            (at(4), Err(NoAnswer::SomebodyElse("another cluster's".to_owned()))),
            (at(5), Ok(answer("raft-8"))),
        ];
        let told = report(seats, others, Some("svc: unknown".to_owned()));
        let told: Vec<_> = told
            .into_iter()
            .map(|asked| (asked.seat, asked.result.map(|answer| answer.name)))
            .collect();
        let expected = [
            (Some("raft-0"), Ok("raft-0")),
            (Some("raft-1"), Err("silent")),
            (None, Ok("raft-7")),
            (None, Err("no answer")),
            (None, Ok("raft-8")),
            (None, Err("svc: unknown")),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(seat, result)| {
                (seat.map(str::to_owned), result.map(str::to_owned).map_err(str::to_owned))
            })
            .collect();
        assert_eq!(told, expected);
    }
}
