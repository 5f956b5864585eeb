//! What a member holds and owes: deliveries that wait to be sent, those that were, settlements to be made, and what it is to
//! be told. Without I/O: time and outcomes are given to it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bus::{Group, LeaseLost, Leased, Mode, Settlement, Token, Verb};
use prost::Message as _;
use proto::turnpike::bus::v1 as wire;
use tokio::time::Instant;
use wire::{
    consume_request::{Credit, Message as Said, Settle},
    consume_response::{Beat, Deliveries, LeaseLost as Lost, Message, Settled},
};

use super::read_credit;
use crate::{
    grpc::{claim::delivery, settlement::Batch},
    problem::Problem,
    work::released,
};

/// Bytes of deliveries that are sent in one message; more only where a single one is larger.
const MOST_BYTES: usize = 1 << 20;
/// Settlements and answers that wait before the client is heard again.
const MOST_SETTLEMENTS: usize = 2000;
const MOST_ANSWERS: usize = 64;
/// Beats without a sign of life after which leases aren't extended any more, and the stream ends.
const ALIVE: u32 = 2;
const SILENT: u32 = 3;

pub(super) struct Session {
    /// Unsettled deliveries it takes at once.
    credit: usize,
    beat: Duration,
    /// Leased and not sent.
    waiting: VecDeque<Leased>,
    /// Sent and not settled, with the moment at which handling takes too long, if it may.
    held: HashMap<Token, Option<Instant>>,
    /// What the client settles, and what is settled for it, next.
    said: VecDeque<Batch>,
    own: Vec<Settlement>,
    /// Settlements on their way to the bus.
    settling: usize,
    outgoing: VecDeque<Message>,
    heard: Instant,
    /// The client was told something since the last beat.
    told: bool,
    /// Nothing more is to be had.
    leaving: bool,
}

/// Settlements on their way to the bus: the client's first, in their order.
pub(super) struct Settling {
    said: VecDeque<Batch>,
    own: Vec<Settlement>,
}

/// Nothing was heard of the client for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence;

impl Session {
    pub fn new(credit: usize, beat: Duration) -> Self {
        Self {
            credit,
            beat,
            waiting: VecDeque::new(),
            held: HashMap::new(),
            said: VecDeque::new(),
            own: Vec::new(),
            settling: 0,
            outgoing: VecDeque::new(),
            heard: Instant::now(),
            told: true,
            leaving: false,
        }
    }

    pub fn beat(&self) -> Duration {
        self.beat
    }

    /// How many more deliveries it may be given. What can't be settled counts, so that a bus that only takes claims fills
    /// nothing.
    pub fn room(&self) -> usize {
        if self.leaving {
            return 0;
        }
        self.credit.saturating_sub(self.waiting.len() + self.held.len() + self.owed() + self.settling)
    }

    /// Whether the client may say more: what it says is answered, and both are kept.
    pub fn hears(&self) -> bool {
        self.owed() + self.settling < MOST_SETTLEMENTS && self.outgoing.len() < MOST_ANSWERS
    }

    /// Whether nothing is left to be settled or told.
    pub fn is_done(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        self.owed() == 0 && self.settling == 0 && self.outgoing.is_empty()
    }

    fn owed(&self) -> usize {
        self.said.iter().map(|batch| batch.settlements().count().max(1)).sum::<usize>() + self.own.len()
    }

    /// The bus has leased these to it.
    pub fn leased(&mut self, leased: Vec<Leased>) {
        self.waiting.extend(leased);
        if self.leaving {
            self.release_waiting();
        }
    }

    /// The client says something.
    pub fn said(&mut self, group: &Group, said: Option<Said>, now: Instant) -> Result<(), Problem> {
        self.heard = now;
        match said {
            Some(Said::Settle(Settle { settlements })) => {
                let batch = Batch::read(settlements)?;
                let mut failed = false;
                for Settlement { token, verb } in batch.settlements() {
                    if *verb != Verb::Extend {
                        self.held.remove(token);
                        failed |= *verb != Verb::Ack;
                    }
                }
                self.said.push_back(batch);
                // In order: what comes behind what must be tried again is not for now.
                if failed && group.mode == Mode::Exclusive {
                    self.release_waiting();
                }
                Ok(())
            }
            Some(Said::Credit(Credit { credit })) => {
                self.credit = read_credit(credit)?;
                Ok(())
            }
            Some(Said::Beat(_)) => Ok(()),
            Some(Said::Hello(_)) => Err(Problem::invalid("hello comes once")),
            None => Err(Problem::invalid("the message is of no kind that this version of the broker knows")),
        }
    }

    /// A beat has passed: leases are extended if the client lives, those excepted whose handling takes too long.
    pub fn tick(&mut self, group: &Group, now: Instant) -> Result<(), Silence> {
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.beat * SILENT {
            return Err(Silence);
        }
        let late = self.held.iter().filter(|(_, end)| end.is_some_and(|end| end <= now));
        let late: Vec<Token> = late.map(|(token, _)| *token).collect();
        let reason = || format!("the handler took longer than {:?}", group.max_processing.unwrap_or_default());
        let nack = |token| Settlement { token, verb: Verb::Nack { delay: None, reason: reason(), retryable: true } };
        self.own.extend(late.iter().copied().map(nack));
        self.lost(late);
        if silence < self.beat * ALIVE {
            let held = self.held.keys().copied().chain(self.waiting.iter().map(|leased| leased.token));
            self.own.extend(held.map(|token| Settlement { token, verb: Verb::Extend }));
        }
        if !std::mem::take(&mut self.told) && self.outgoing.is_empty() {
            self.tell(Message::Beat(Beat {}));
        }
        Ok(())
    }

    /// What the client is to be told next, if it may be told now.
    pub fn next(&mut self, group: &Group, now: Instant) -> Option<Message> {
        self.told = true;
        if let Some(message) = self.outgoing.pop_front() {
            return Some(message);
        }
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        while let Some(leased) = self.waiting.front()
            && (group.mode != Mode::Exclusive || self.held.is_empty())
        {
            let delivery = delivery(leased);
            bytes += delivery.encoded_len();
            if bytes > MOST_BYTES && !deliveries.is_empty() {
                break;
            }
            self.held.insert(leased.token, group.max_processing.map(|longest| now + longest));
            self.waiting.pop_front();
            deliveries.push(delivery);
        }
        (!deliveries.is_empty()).then_some(Message::Deliveries(Deliveries { deliveries }))
    }

    /// Whether [`Session::next`] has something.
    pub fn has_next(&self, group: &Group) -> bool {
        let deliverable = group.mode != Mode::Exclusive || self.held.is_empty();
        !self.outgoing.is_empty() || (deliverable && !self.waiting.is_empty())
    }

    pub fn tell(&mut self, message: Message) {
        self.outgoing.push_back(message);
    }

    /// What is to be settled next, if anything is.
    pub fn settle(&mut self) -> Option<(Settling, Vec<Settlement>)> {
        if self.said.is_empty() && self.own.is_empty() {
            return None;
        }
        let settling = Settling { said: std::mem::take(&mut self.said), own: std::mem::take(&mut self.own) };
        let said = settling.said.iter().flat_map(Batch::settlements);
        let settlements: Vec<Settlement> = said.chain(&settling.own).cloned().collect();
        self.settling = settlements.len().max(1);
        Some((settling, settlements))
    }

    /// What became of it.
    pub fn settled(&mut self, settling: Settling, outcomes: Vec<Result<(), LeaseLost>>) {
        self.settling = 0;
        let mut outcomes = outcomes.into_iter();
        for batch in settling.said {
            let outcomes = batch.outcomes(outcomes.by_ref());
            self.tell(Message::Settled(Settled { outcomes }));
        }
        let lost = settling.own.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.is_err());
        self.lost(lost.map(|(settlement, _)| settlement.token).collect());
    }

    /// It could not be made now: again, but for extensions, which are made anew at their time.
    pub fn unsettled(&mut self, settling: Settling) {
        self.settling = 0;
        for batch in settling.said.into_iter().rev() {
            self.said.push_front(batch);
        }
        self.own.splice(0..0, settling.own.into_iter().filter(|settlement| settlement.verb != Verb::Extend));
    }

    /// The bus knows nothing of the group any more.
    pub fn forgotten(&mut self, settling: Settling) {
        self.settled(settling, Vec::new());
        self.waiting.clear();
        self.lost(self.held.keys().copied().collect());
    }

    /// Nothing more comes; what wasn't sent is given back.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.release_waiting();
    }

    /// The client has said its last word: what it has not settled is given back.
    pub fn finish(&mut self) {
        self.leave();
        self.own.extend(std::mem::take(&mut self.held).into_keys().map(released));
    }

    fn release_waiting(&mut self) {
        self.own.extend(self.waiting.drain(..).map(|leased| released(leased.token)));
    }

    /// These are somebody else's now.
    fn lost(&mut self, tokens: Vec<Token>) {
        self.waiting.retain(|leased| !tokens.contains(&leased.token));
        let held = tokens.into_iter().filter(|token| self.held.remove(token).is_some());
        let tokens: Vec<String> = held.map(|token| token.to_string()).collect();
        if !tokens.is_empty() {
            self.tell(Message::LeaseLost(Lost { tokens }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::{Envelope, Name};
    use time::OffsetDateTime;

    use super::*;

    const BEAT: Duration = Duration::from_secs(10);

    fn group(mode: Mode) -> Group {
        Group::new("billing", "DB/*".parse().unwrap(), mode)
    }

    fn leased(position: u64) -> Leased {
        let name = |name| Name::new(name).unwrap();
        Leased {
            token: format!("1.0.{position:x}.000000000000000a").parse().unwrap(),
            envelope: Arc::new(Envelope::new("/services/test", name("DB"), name("CREATE"))),
            partition: 0,
            position,
            attempt: 1,
            redrive: 0,
            first_delivered: OffsetDateTime::UNIX_EPOCH,
            until: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn says(session: &mut Session, group: &Group, position: u64, verb: wire::settlement::Verb) {
        let settlement = wire::Settlement { token: leased(position).token.to_string(), verb: Some(verb) };
        let said = Said::Settle(Settle { settlements: vec![settlement] });
        session.said(group, Some(said), Instant::now()).unwrap();
    }

    fn delivered(message: Option<Message>) -> usize {
        match message {
            Some(Message::Deliveries(batch)) => batch.deliveries.len(),
            None => 0,
            Some(other) => panic!("{other:?}"),
        }
    }

    /// What is settled now, all of it well.
    fn settle(session: &mut Session) -> Vec<Verb> {
        let Some((settling, settlements)) = session.settle() else { return Vec::new() };
        session.settled(settling, vec![Ok(()); settlements.len()]);
        settlements.into_iter().map(|settlement| settlement.verb).collect()
    }

    #[test]
    fn a_settlement_makes_room_once_the_bus_has_it() {
        let (group, mut session) = (group(Mode::Parallel), Session::new(2, BEAT));
        session.leased(vec![leased(1), leased(2)]);
        assert_eq!(delivered(session.next(&group, Instant::now())), 2);
        says(&mut session, &group, 1, wire::settlement::Verb::Ack(wire::settlement::Ack {}));
        assert_eq!(session.room(), 0);
        assert_eq!(settle(&mut session), [Verb::Ack]);
        assert_eq!(session.room(), 1);
    }

    #[test]
    fn an_exclusive_group_s_failure_gives_back_what_is_behind_it() {
        let (group, mut session) = (group(Mode::Exclusive), Session::new(8, BEAT));
        session.leased(vec![leased(1), leased(2), leased(3)]);
        assert_eq!(delivered(session.next(&group, Instant::now())), 1);
        assert_eq!(delivered(session.next(&group, Instant::now())), 0, "one after another");
        says(&mut session, &group, 1, wire::settlement::Verb::Release(wire::settlement::Release {}));
        assert_eq!(settle(&mut session), [Verb::Release, Verb::Release, Verb::Release]);
    }

    #[test]
    fn leases_are_extended_while_the_client_is_heard_of() {
        let (group, mut session) = (group(Mode::Parallel), Session::new(8, BEAT));
        let begun = Instant::now();
        session.leased(vec![leased(1), leased(2)]);
        _ = session.next(&group, begun);
        assert_eq!(session.tick(&group, begun + BEAT), Ok(()));
        assert_eq!(settle(&mut session), [Verb::Extend, Verb::Extend]);
        assert_eq!(session.tick(&group, begun + 2 * BEAT + BEAT / 2), Ok(()));
        assert_eq!(settle(&mut session), [], "it may have died");
        assert_eq!(session.tick(&group, begun + 4 * BEAT), Err(Silence));
    }

    #[test]
    fn a_lease_that_was_lost_is_told_and_an_extension_that_could_not_be_made_is_forgotten() {
        let (group, mut session) = (group(Mode::Parallel), Session::new(8, BEAT));
        session.leased(vec![leased(1)]);
        _ = session.next(&group, Instant::now());
        session.tick(&group, Instant::now()).unwrap();
        let (settling, _) = session.settle().unwrap();
        session.unsettled(settling);
        assert!(session.settle().is_none(), "made anew at its time");
        session.tick(&group, Instant::now()).unwrap();
        let (settling, _) = session.settle().unwrap();
        session.settled(settling, vec![Err(LeaseLost)]);
        let lost = Lost { tokens: vec![leased(1).token.to_string()] };
        let told =
            std::iter::from_fn(|| session.next(&group, Instant::now())).find(|told| !matches!(told, Message::Beat(_)));
        assert_eq!(told, Some(Message::LeaseLost(lost)));
        assert!(session.is_done());
    }

    #[test]
    fn who_has_said_its_last_word_has_nothing_left() {
        let (group, mut session) = (group(Mode::Parallel), Session::new(8, BEAT));
        session.leased(vec![leased(1), leased(2)]);
        _ = session.next(&group, Instant::now());
        session.leased(vec![leased(3)]);
        session.finish();
        assert_eq!(settle(&mut session), [Verb::Release, Verb::Release, Verb::Release]);
        assert!(session.is_done() && session.room() == 0);
    }
}
