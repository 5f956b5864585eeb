//! A batch on a group's state of one partition: worked out on the state as this node has it, then committed in one script
//! if nobody was first.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    super::{
        keys::GroupKeys,
        place::{Place, Ran, View},
        shared::Shared,
    },
    holders::Holders,
    job::{Answer, Ask},
    letter::Letter,
    orphan::Orphans,
    presence,
    state::{self, COMMIT, Committer, Held, Letters, Stored},
    window::Window,
};
use crate::{
    Error, Group, Mode,
    ledger::{Fate, Record},
    metrics::GroupLabels,
};

pub(super) struct Desk {
    pub(super) name: String,
    pub(super) place: Arc<Place>,
    pub(super) keys: GroupKeys,
    pub(super) holders: Arc<Holders>,
    pub(super) labels: GroupLabels,
    pub(super) rng: StdRng,
    pub(super) window: Window,
    held: Option<Held>,
    orphans: Orphans,
    /// Others were first too often.
    pub(super) late: bool,
    /// When the lowest event that isn't settled was recorded.
    pub(super) oldest: Option<(u64, i64)>,
}

/// What a batch changes besides the ledger.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) letters: Letters,
    /// Of deliveries, told once they are true.
    pub(super) outcomes: Vec<&'static str>,
    expired: usize,
    /// The group goes on from another place.
    pub(super) moved: bool,
    /// Something that was settled, or whose time came, may let others claim.
    pub(super) woken: bool,
    /// Where events stand with the group changed.
    pub(super) settled: bool,
    deaths: Vec<(u64, &'static str, String, Record)>,
}

pub(super) enum Tried {
    /// An answer each; what only reads may still have failed.
    Done(Vec<Result<Answer, Error>>),
    /// Somebody else was first.
    Stale,
    /// It is somebody else's turn.
    Busy,
}

impl Desk {
    pub(super) fn new(name: &str, place: Arc<Place>, keys: GroupKeys, holders: Arc<Holders>) -> Self {
        Self {
            name: name.to_owned(),
            window: Window::new(place.clone(), keys.dead.clone()),
            place,
            keys,
            holders,
            labels: GroupLabels::new(name),
            rng: StdRng::from_os_rng(),
            held: None,
            orphans: Orphans::default(),
            late: false,
            oldest: None,
        }
    }

    /// Until something ends by itself; None where nothing does, or this node doesn't know.
    pub(super) fn until_due(&self, shared: &Shared) -> Option<Duration> {
        let due = self.held.as_ref()?.ledger.next_due()?;
        Some(Duration::from_millis(u64::try_from(due - self.now(shared)).unwrap_or(0)))
    }

    pub(super) fn is_due(&self, shared: &Shared) -> bool {
        self.until_due(shared).is_some_and(|until| until.is_zero())
    }

    /// Somebody on this node waits for something to claim.
    pub(super) fn is_watched(&self, shared: &Shared) -> bool {
        shared.wakes.claimable.is_watched(&self.name)
    }

    /// There are leases to be given back.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Forgets the state: it may be another one.
    pub(super) fn forget(&mut self) {
        self.held = None;
        self.window.clear();
    }

    /// The server's time. It doesn't go back.
    fn now(&self, shared: &Shared) -> i64 {
        shared.now_in(&self.place).max(self.place.view().now)
    }

    pub(super) async fn attempt(&mut self, shared: &Arc<Shared>, asks: &[&Ask]) -> Result<Tried, Error> {
        let Some(mut group) = shared.find_group(&self.name).await? else {
            self.forget();
            return Err(Error::NoGroup(self.name.clone()));
        };
        let mut held = match self.held.take() {
            Some(held) if held.ledger.mode() == group.mode => held,
            _ => self.load(shared, group.mode).await?,
        };
        if held.revision > group.revision {
            // Another node has declared it anew: what this one remembers holds no longer.
            group = shared.ask_group(&self.name).await?.unwrap_or(group);
            if held.ledger.mode() != group.mode {
                held = self.load(shared, group.mode).await?;
            }
        }
        held.declare(group.revision);
        let mut draft = Draft::default();
        let now = self.now(shared);
        held.ledger.set_on_dead(group.on_dead);
        held.ledger.set_retry(group.retry);
        held.ledger.set_most(group.in_flight);
        if asks.iter().any(|ask| ask.is_a_member_s()) {
            held.presence.show(now, presence::every(shared, &self.place.queue).await?);
        } else if held.presence.claimed == 0 {
            // Of an older version: its members have from now on.
            held.presence.show(now, 0);
        }
        lose(&self.place, &mut held, &mut draft);
        let before = (held.ledger.in_flight(), held.ledger.is_at_its_limit());
        self.orphans.give_back(&mut held, &mut draft);
        self.expire(shared, &group, &mut held, &mut draft, now).await?;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(self.answer(shared, &group, &mut held, &mut draft, ask, now).await?);
        }
        self.bury(shared, &mut held, &mut draft, now).await?;
        draft.letters.gone.append(&mut self.window.forgotten);
        self.window.end_batch();

        let ledger = &held.ledger;
        let freed = before.1 && !ledger.is_at_its_limit();
        let vacant = group.mode == Mode::Exclusive && before.0 > 0 && ledger.in_flight() == 0;
        let wakes = draft.moved || (draft.woken && (ledger.offers() || freed || vacant));
        let mut hints = Vec::new();
        if wakes {
            hints.push(format!("g:{}@{}", self.name, shared.roster.node()));
        }
        if draft.settled {
            hints.push(format!("s:{}@{}", self.place.queue, shared.roster.node()));
        }
        let ran = match self.commit(shared, &mut held, &draft.letters, &hints).await {
            Ok(ran) => ran,
            Err(error) => {
                for answer in &answers {
                    if let Answer::Claimed { claimed, .. } = answer {
                        self.orphans.take_in(claimed, now, held.version);
                    }
                }
                return Err(error);
            }
        };
        match state::read(ran.value)? {
            state::Answer::Committed { version, dead } => {
                self.orphans.committed(version, now);
                (held.version, held.dead, held.revive) = (Some(version), dead, false);
                let behind = draft.woken && ran.view.next > held.ledger.next();
                self.done(shared, &draft, wakes || behind);
                self.labels.lost(held.ledger.take_lost());
                self.holders.tell(self.place.partition, &held.ledger);
                let mut finished = Vec::with_capacity(answers.len());
                for answer in answers {
                    finished.push(self.finish(shared, &group, &held, &ran.view, answer).await);
                }
                self.held = Some(held);
                Ok(Tried::Done(finished))
            }
            state::Answer::Stale(stored) => {
                if held.lineage != ran.view.lineage {
                    self.window.clear();
                }
                self.held = Some(self.taken(shared, stored, group.mode, &ran.view));
                Ok(Tried::Stale)
            }
            state::Answer::Busy => Ok(Tried::Busy),
            state::Answer::Gone => {
                self.window.clear();
                self.held = Some(Held::new(group.mode, ran.view.floor, ran.view.lineage));
                Ok(Tried::Stale)
            }
        }
    }

    /// Takes the state from Redis.
    async fn load(&mut self, shared: &Shared, mode: Mode) -> Result<Held, Error> {
        self.window.clear();
        let mut unknown = Held::new(mode, 1, 0);
        let ran = self.commit(shared, &mut unknown, &Letters::default(), &[]).await?;
        match state::read(ran.value)? {
            state::Answer::Stale(stored) => Ok(self.taken(shared, stored, mode, &ran.view)),
            _ => Ok(Held::new(mode, ran.view.floor, ran.view.lineage)),
        }
    }

    /// The state that others left, or this node itself where it didn't hear the answer: nobody else tells of what may be
    /// claimed now.
    fn taken(&self, shared: &Shared, stored: Stored, mode: Mode, view: &View) -> Held {
        let held = stored.restore(mode, view);
        if held.ledger.offers() || view.next > held.ledger.next() {
            shared.wake_group(&self.name);
        }
        held
    }

    async fn commit(
        &self,
        shared: &Shared,
        held: &mut Held,
        letters: &Letters,
        hints: &[String],
    ) -> Result<Ran, Error> {
        let (queue, partition) = (&self.place.queue, self.place.partition);
        let by = Committer { group: &self.name, queue, node: shared.roster.node(), late: self.late };
        let args = state::commit(&by, held, letters, hints);
        let keys = &self.keys;
        let keys = [&keys.state, &keys.dead, &keys.died, &keys.order, &keys.turn].map(Clone::clone);
        shared.run(&COMMIT, queue, partition, &keys, &args).await
    }

    /// Ends the leases and delays whose time has come.
    async fn expire(
        &mut self,
        shared: &Shared,
        group: &Group,
        held: &mut Held,
        draft: &mut Draft,
        now: i64,
    ) -> Result<(), Error> {
        if held.ledger.next_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let partition = self.place.partition;
        let partitions = shared.ensure_queue(&self.place.queue).await?.partitions as usize;
        let before: Vec<_> = held.ledger.holders().map(|(member, leases)| (member.to_owned(), leases)).collect();
        let leases = self.holders.before_the_end(partition, partitions, &held.ledger, now, lease(group));
        draft.woken = true;
        let holds = |member: &str| leases.get(member).copied().unwrap_or(0);
        for (position, fate) in held.ledger.expire(now, holds, || self.rng.random()) {
            draft.expired += 1;
            draft.conclude(position, fate);
        }
        self.holders.end(partition, &before, &held.ledger, now);
        Ok(())
    }

    /// Writes the letters of those that died.
    async fn bury(&mut self, shared: &Shared, held: &mut Held, draft: &mut Draft, now: i64) -> Result<(), Error> {
        for (position, reason, error, record) in std::mem::take(&mut draft.deaths) {
            let queue = &self.place.queue;
            match self.window.read(shared, position).await? {
                Some(entry) => {
                    tracing::warn!(group = self.name, %queue, position, reason, error, "dead letter");
                    let letter = Letter::new(entry, reason, error, record, now);
                    draft.letters.buried.push((position, letter.write(), now));
                }
                None => {
                    tracing::error!(group = self.name, %queue, position, reason, "no event is left to bury");
                    held.ledger.lose_settled(position);
                }
            }
        }
        Ok(())
    }

    /// Tells what was committed.
    fn done(&self, shared: &Shared, draft: &Draft, wakes: bool) {
        draft.outcomes.iter().for_each(|outcome| self.labels.outcome(outcome));
        (0..draft.expired).for_each(|_| self.labels.lease_expired());
        if wakes {
            shared.wake_group(&self.name);
        }
        if draft.settled {
            shared.wake_settled(&self.place.queue);
        }
    }
}

impl Draft {
    /// What became of a delivery. Whether its letter is forgotten the caller sees to.
    pub(super) fn conclude(&mut self, position: u64, fate: Fate) {
        let outcome = match fate {
            Fate::Extended => return,
            Fate::Acked => "acked",
            Fate::Released => "released",
            Fate::Retrying => "retried",
            Fate::Deferred => "deferred",
            Fate::Dead { reason, error, record } => {
                self.deaths.push((position, reason, error, record));
                "dead"
            }
        };
        self.woken = true;
        self.settled = true;
        self.outcomes.push(outcome);
    }
}

/// Takes in that the log begins later than the group had come: what it had not settled before is lost.
pub(super) fn lose(place: &Place, held: &mut Held, draft: &mut Draft) {
    let view = place.view();
    if view.lineage == held.lineage && held.ledger.hold() < view.floor {
        held.ledger.lose(view.floor);
        (draft.woken, draft.settled) = (true, true);
    }
}

/// A group's lease, in milliseconds.
pub(super) fn lease(group: &Group) -> i64 {
    i64::try_from(group.lease.as_millis()).unwrap_or(i64::MAX / 2)
}
