//! Working out what is asked, on the state as this node has it. Nothing of it is true before the commit.

use std::sync::Arc;

use rand::Rng as _;

use super::{
    super::{log, place::View, shared::Shared},
    desk::{Desk, Draft, lease, lose},
    job::{Answer, Ask, Looked, Want},
    letter,
    state::Held,
};
use crate::{
    Claimed, Error, Group, LeaseLost, Settlement, Sought, Standing, Start, Verb,
    claiming::{Claiming, SCAN},
    clock::moment,
    lease::IN_FLIGHT_PER_MEMBER,
    publish, receipt,
};

/// How long a dead letter is kept, in milliseconds.
const KEPT: i64 = 30 * 86_400_000;
/// Milliseconds between the redriven, so that they don't come all at once: a hundred a second.
pub(super) const PACE: i64 = 10;

impl Desk {
    pub(super) async fn answer(
        &mut self,
        shared: &Shared,
        group: &Group,
        held: &mut Held,
        draft: &mut Draft,
        ask: &Ask,
        now: i64,
    ) -> Result<Answer, Error> {
        match ask {
            Ask::Claim(want) => self.claim(shared, group, held, draft, want, now).await,
            Ask::Settle(settlements) => Ok(self.settle(held, draft, settlements, now, now + lease(group))),
            Ask::Look => Ok(Answer::Looked(Looked::default())),
            Ask::Standing(position) => Ok(Answer::Standing { position: *position, standing: Standing::Unknown }),
            Ask::Redrive { positions, pause } => self.redrive(shared, held, draft, positions, now + pause).await,
            Ask::Discard(positions) => self.discard(shared, held, draft, positions).await,
            Ask::Hurry { partition, which } => {
                let hurried = held.ledger.hurry(|position| which.names(*partition, position));
                draft.woken |= hurried > 0;
                Ok(Answer::Count(hurried))
            }
            Ask::Seek { to, dry_run } => self.seek(shared, held, draft, *to, *dry_run).await.map(Answer::Sought),
            Ask::Forget => {
                draft.letters.forget = Some(now - KEPT);
                Ok(Answer::Done)
            }
        }
    }

    async fn claim(
        &mut self,
        shared: &Shared,
        group: &Group,
        held: &mut Held,
        draft: &mut Draft,
        want: &Want,
        now: i64,
    ) -> Result<Answer, Error> {
        let member: &Arc<str> = &want.member;
        let elsewhere = self.holders.elsewhere(self.place.partition, member);
        let has = elsewhere.0 + held.ledger.held(member);
        let mut claiming = Claiming {
            rng: &mut self.rng,
            filter: &group.filter,
            generation: held.generation,
            member: member.clone(),
            takes_expired: receipt::is_receipts(&group.name),
            now,
            until: now + lease(group),
            events: want.events.min(IN_FLIGHT_PER_MEMBER.saturating_sub(has)),
            bytes: want.bytes,
            scan: SCAN,
            claimed: Claimed::default(),
            at_end: false,
            outcomes: Vec::new(),
        };
        let mut ended = false;
        loop {
            let (has, suspects) = (held.ledger.held(member), held.ledger.holds_suspect(member));
            let (has, suspects) = (has + elsewhere.0, suspects || elsewhere.1);
            claiming.at_end = false;
            match claiming.partition(self.place.partition, &mut self.window, &mut held.ledger, has, suspects) {
                Ok(()) if claiming.at_end && !ended => {
                    ended = self.window.read_ahead(shared, held.ledger.next(), claiming.events).await?;
                }
                Ok(()) => break,
                Err(missing) => self.window.fill(shared, missing, claiming.events).await?,
            }
            if self.window.begins_late(shared).await? {
                lose(&self.place, held, draft);
            }
        }
        draft.outcomes.append(&mut claiming.outcomes);
        let Claiming { claimed, bytes, at_end, .. } = claiming;
        // Where something is missing that was recorded, claiming again at once would find no more.
        Ok(Answer::Claimed { claimed, bytes, at_end: at_end && self.window.reaches_head() })
    }

    fn settle(
        &mut self,
        held: &mut Held,
        draft: &mut Draft,
        settlements: &[Settlement],
        now: i64,
        until: i64,
    ) -> Answer {
        let outcomes = settlements.iter().map(|Settlement { token, verb }| {
            let redriven = held.ledger.record(token.position).is_some_and(|record| record.redrive > 0);
            let settled = if token.generation == held.generation {
                held.ledger.settle(token.position, token.secret, verb.clone(), now, until, self.rng.random())
            } else {
                Err(LeaseLost)
            };
            let fate = settled.inspect_err(|LeaseLost| draft.outcomes.push("stale"))?;
            if redriven && *verb == Verb::Ack {
                draft.letters.gone.push(token.position);
            }
            draft.conclude(token.position, fate);
            Ok(())
        });
        Answer::Settled(outcomes.collect())
    }

    async fn redrive(
        &mut self,
        shared: &Shared,
        held: &mut Held,
        draft: &mut Draft,
        positions: &[u64],
        mut at: i64,
    ) -> Result<Answer, Error> {
        let letters: Vec<Option<String>> =
            shared.server.ask(redis::cmd("HMGET").arg(&self.keys.dead).arg(positions)).await?;
        let mut redriven = 0;
        for (position, text) in positions.iter().zip(letters) {
            // What a seek brought back comes again anyway.
            let full = held.ledger.is_full() && !held.ledger.is_blocking(*position);
            if full || held.ledger.holds(*position) {
                continue;
            }
            let Some(mut letter) = text.and_then(|text| letter::read(&text, *position)) else { continue };
            letter.redrive += 1;
            held.ledger.redrive(*position, publish::hash(letter.key()), letter.redrive, at);
            draft.letters.redriven.push((*position, letter.write()));
            at += PACE;
            redriven += 1;
        }
        draft.settled = true;
        Ok(Answer::Count(redriven))
    }

    async fn discard(
        &self,
        shared: &Shared,
        held: &mut Held,
        draft: &mut Draft,
        positions: &[u64],
    ) -> Result<Answer, Error> {
        let dead: Vec<Option<String>> =
            shared.server.ask(redis::cmd("ZMSCORE").arg(&self.keys.died).arg(positions)).await?;
        let there = positions.iter().zip(dead).filter_map(|(position, died)| died.map(|_| *position));
        draft.letters.gone.extend(there);
        draft.letters.gone.iter().for_each(|position| held.ledger.discard(*position));
        (draft.woken, draft.settled) = (true, true);
        Ok(Answer::Count(draft.letters.gone.len() as u64))
    }

    async fn seek(
        &mut self,
        shared: &Shared,
        held: &mut Held,
        draft: &mut Draft,
        to: Start,
        dry_run: bool,
    ) -> Result<Sought, Error> {
        let to = log::position_at(shared, &self.place.queue, self.place.partition, to).await?;
        let sought = held.ledger.sought(to);
        if !dry_run {
            held.ledger.seek(to);
            held.generation = held.generation.wrapping_add(1);
            // A redriven letter that is dropped is a dead letter again.
            draft.letters.revive = true;
            (draft.moved, draft.settled) = (true, true);
        }
        Ok(sought)
    }

    /// Completes what depends on the log as the commit found it.
    pub(super) async fn finish(
        &mut self,
        shared: &Shared,
        group: &Group,
        held: &Held,
        view: &View,
        answer: Answer,
    ) -> Result<Answer, Error> {
        Ok(match answer {
            Answer::Claimed { mut claimed, bytes, at_end } => {
                claimed.more |= at_end && view.next > held.ledger.next();
                Answer::Claimed { claimed, bytes, at_end }
            }
            Answer::Looked(_) => Answer::Looked(self.look(shared, held, view).await?),
            Answer::Standing { position, .. } => {
                let standing = self.standing(shared, group, held, view, position).await?;
                Answer::Standing { position, standing }
            }
            done => done,
        })
    }

    async fn look(&mut self, shared: &Shared, held: &Held, view: &View) -> Result<Looked, Error> {
        let ledger = &held.ledger;
        let (retrying, parked) = ledger.retrying_and_parked();
        Ok(Looked {
            lag: view.next.saturating_sub(ledger.next()) + ledger.unsettled() as u64,
            in_flight: ledger.in_flight() as u64,
            retrying,
            parked,
            dead: held.dead,
            blocked: ledger.blocked() as u64,
            full: ledger.is_full(),
            oldest: self.recorded(shared, ledger.lowest(), view.next).await?.map(moment),
            next: ledger.next(),
            lost: ledger.lost().clone(),
            abandoned: held.presence.abandoned.map(moment),
        })
    }

    async fn standing(
        &mut self,
        shared: &Shared,
        group: &Group,
        held: &Held,
        view: &View,
        position: u64,
    ) -> Result<Standing, Error> {
        if !held.ledger.holds(position) {
            let died: Option<String> =
                shared.server.ask(redis::cmd("ZSCORE").arg(&self.keys.died).arg(position)).await?;
            if died.is_some() {
                let text: Option<String> =
                    shared.server.ask(redis::cmd("HGET").arg(&self.keys.dead).arg(position)).await?;
                if let Some(letter) = text.and_then(|text| letter::read(&text, position)) {
                    return Ok(letter.standing());
                }
            }
        }
        let event = match (view.floor..view.next).contains(&position) {
            true => self.window.read(shared, position).await?,
            false => None,
        };
        self.window.end_batch();
        if event.is_none() && (held.ledger.next()..view.floor).contains(&position) {
            // It was dropped just now: the group's next commit takes that in.
            return Ok(Standing::Lost);
        }
        Ok(held.ledger.standing(position, event.as_ref().map(|entry| entry.envelope.as_ref()), &group.filter))
    }

    /// When an event was recorded.
    async fn recorded(&mut self, shared: &Shared, position: u64, head: u64) -> Result<Option<i64>, Error> {
        if position >= head {
            return Ok(None);
        }
        if self.oldest.is_none_or(|(known, _)| known != position) {
            let entry = self.window.read(shared, position).await?;
            self.oldest = entry.map(|entry| (position, entry.recorded));
            self.window.end_batch();
        }
        Ok(self.oldest.map(|(_, recorded)| recorded))
    }
}
