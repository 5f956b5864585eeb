//! What a group knows of one partition: the next position to look at, and a record for each event before it that is not
//! settled. A state machine without I/O: time, randomness and the log come in as arguments, what must be stored goes
//! out by [`Ledger::take_changes`].
//!
//! It promises: one valid lease a delivery; in keyed mode at most one unsettled delivery a key, in order of position,
//! across retries; in exclusive mode one claim's leases at a time, in order; with [`OnDead::Block`] nothing passes a dead letter of its
//! key; innocents uncharged (see [`Ledger::expire`]).

mod claim;
mod expired;
mod lost;
mod record;
mod seek;
mod settle;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub(crate) use claim::{Lessee, Room};
pub(crate) use lost::Lost;
pub(crate) use record::{Fate, Record, State};

use crate::{Mode, OnDead, Retry, lease};

/// A key and the unsettled events that have it.
#[derive(Debug)]
struct Key {
    /// The one whose turn it is.
    active: u64,
    waiting: BTreeSet<u64>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    mode: Mode,
    on_dead: OnDead,
    retry: Retry,
    /// The most leases at once.
    most: usize,
    /// What lies below was never this group's: recorded before its time, or passed over by a seek.
    start: u64,
    next: u64,
    records: BTreeMap<u64, Record>,
    /// Can be leased now.
    ready: BTreeSet<u64>,
    /// Can be leased now, but only alone: a member died with it, or with something beside it.
    suspects: BTreeSet<u64>,
    /// When leases and retries end.
    due: BTreeSet<(i64, u64)>,
    /// Keyed mode only.
    keys: HashMap<u64, Key>,
    /// How many leases each member holds, and whether one of them is of a suspect.
    held: HashMap<Arc<str>, Held>,
    in_flight: usize,
    /// Records of dead letters that block.
    blocked: usize,
    changed: BTreeSet<u64>,
    moved: bool,
    lost: Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    leases: usize,
    suspects: usize,
}

impl Ledger {
    pub(crate) fn new(mode: Mode, next: u64) -> Self {
        Self {
            mode,
            on_dead: OnDead::Continue,
            retry: Retry::Standard,
            most: lease::IN_FLIGHT,
            start: next,
            next,
            records: BTreeMap::new(),
            ready: BTreeSet::new(),
            suspects: BTreeSet::new(),
            due: BTreeSet::new(),
            keys: HashMap::new(),
            held: HashMap::new(),
            in_flight: 0,
            blocked: 0,
            changed: BTreeSet::new(),
            moved: true,
            lost: Lost::default(),
        }
    }

    /// From what was stored.
    pub(crate) fn restore(mode: Mode, start: u64, next: u64, records: Vec<(u64, Record)>) -> Self {
        let mut ledger = Self { start, moved: false, ..Self::new(mode, next) };
        // What had its turn keeps it, a dead letter that blocks before all; a key whose events all wait (the mode was
        // another one) begins with its first.
        let (parked, active): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(_, record)| matches!(record.state, State::Parked));
        let (dead, active): (Vec<_>, Vec<_>) =
            active.into_iter().partition(|(_, record)| matches!(record.state, State::Dead));
        for (position, mut record) in dead.into_iter().chain(active).chain(parked) {
            if matches!(record.state, State::Parked) {
                record.state = State::Ready;
            }
            ledger.insert(position, record);
        }
        ledger.changed.clear();
        ledger
    }

    /// Nothing before this position is the group's.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The next position to look at.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The lowest position that is not settled.
    pub(crate) fn lowest(&self) -> u64 {
        let unsettled = self.records.iter().find(|(_, record)| record.state != State::Dead);
        unsettled.map_or(self.next, |(position, _)| (*position).min(self.next))
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.records.len() - self.blocked
    }

    /// Dead letters that block a key or the partition.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Events that wait for another attempt, and that wait for their key.
    pub(crate) fn retrying_and_parked(&self) -> (u64, u64) {
        self.records.values().fold((0, 0), |(retrying, parked), record| match record.state {
            State::Retrying { .. } => (retrying + 1, parked),
            State::Parked => (retrying, parked + 1),
            State::Ready | State::Leased { .. } | State::Dead => (retrying, parked),
        })
    }

    pub(crate) fn held(&self, member: &str) -> usize {
        self.held.get(member).map_or(0, |held| held.leases)
    }

    /// The members that hold leases, and how many.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (&str, usize)> {
        self.held.iter().map(|(member, held)| (member.as_ref(), held.leases))
    }

    pub(crate) fn holds_suspect(&self, member: &str) -> bool {
        self.held.get(member).is_some_and(|held| held.suspects > 0)
    }

    /// When something ends next: a lease, or a retry's delay.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether something can be leased, by somebody.
    pub(crate) fn offers(&self) -> bool {
        !self.ready.is_empty() || !self.suspects.is_empty()
    }

    /// Whether nothing more can be leased because so much is leased, or unsettled.
    pub(crate) fn is_at_its_limit(&self) -> bool {
        self.in_flight >= self.most || self.is_full()
    }

    /// Whether so much is unsettled that nothing new is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= lease::UNSETTLED
    }

    /// Every unsettled event, by position.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &Record)> {
        self.records.iter().map(|(position, record)| (*position, record))
    }

    pub(crate) fn record(&self, position: u64) -> Option<&Record> {
        self.records.get(&position)
    }

    /// Whether an event is still to be settled: unsettled, or not yet looked at.
    pub(crate) fn holds(&self, position: u64) -> bool {
        position >= self.next || self.records.get(&position).is_some_and(|record| record.state != State::Dead)
    }

    /// Whether it is a dead letter that blocks.
    pub(crate) fn is_blocking(&self, position: u64) -> bool {
        self.records.get(&position).is_some_and(|record| record.state == State::Dead)
    }

    pub(crate) fn with_on_dead(mut self, on_dead: OnDead) -> Self {
        self.set_on_dead(on_dead);
        self
    }

    /// What a dead letter does to what comes after it. Where it blocks no longer, whatever waited goes on.
    pub(crate) fn set_on_dead(&mut self, on_dead: OnDead) {
        self.on_dead = on_dead;
        if !self.blocks() && self.blocked > 0 {
            let dead = self.records.iter().filter(|(_, record)| record.state == State::Dead);
            for position in dead.map(|(position, _)| *position).collect::<Vec<_>>() {
                self.remove(position);
            }
        }
    }

    /// How what fails is tried again.
    pub(crate) fn set_retry(&mut self, retry: Retry) {
        self.retry = retry;
    }

    pub(crate) fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// How many leases there may be at once.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    pub(crate) fn with_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// There is no order to keep in a parallel group.
    fn blocks(&self) -> bool {
        self.on_dead == OnDead::Block && self.mode != Mode::Parallel
    }

    /// What must be stored: for each position its record, None where it is settled; and `next` if it, or the start, moved.
    pub(crate) fn take_changes(&mut self) -> (Vec<(u64, Option<&Record>)>, Option<u64>) {
        let moved = std::mem::take(&mut self.moved).then_some(self.next);
        let changed = std::mem::take(&mut self.changed);
        let records = &self.records;
        (changed.into_iter().map(|position| (position, records.get(&position))).collect(), moved)
    }

    pub(crate) fn has_changes(&self) -> bool {
        self.moved || !self.changed.is_empty()
    }

    /// Adds an unsettled event. In keyed mode it is parked while another one of its key is unsettled.
    fn insert(&mut self, position: u64, mut record: Record) {
        if self.mode == Mode::Keyed {
            match self.keys.entry(record.key) {
                // Its letter is there; what blocks the key is somebody else.
                std::collections::hash_map::Entry::Occupied(_) if record.state == State::Dead => {
                    self.changed.insert(position);
                    return;
                }
                std::collections::hash_map::Entry::Occupied(mut key) => {
                    key.get_mut().waiting.insert(position);
                    record.state = State::Parked;
                }
                std::collections::hash_map::Entry::Vacant(key) => {
                    key.insert(Key { active: position, waiting: BTreeSet::new() });
                }
            }
        }
        self.index(position, &record);
        self.records.insert(position, record);
        self.changed.insert(position);
    }

    /// Takes an event out, and gives its key's turn to the next one.
    fn remove(&mut self, position: u64) -> Option<Record> {
        let record = self.records.remove(&position)?;
        self.unindex(position, &record);
        self.changed.insert(position);
        if self.mode == Mode::Keyed
            && let Some(key) = self.keys.get_mut(&record.key)
        {
            key.waiting.remove(&position);
            if key.active == position {
                match key.waiting.pop_first() {
                    Some(next) => {
                        key.active = next;
                        self.set_state(next, State::Ready);
                    }
                    None => {
                        self.keys.remove(&record.key);
                    }
                }
            }
        }
        Some(record)
    }

    fn set_state(&mut self, position: u64, state: State) {
        self.update(position, |record| record.state = state);
    }

    /// Changes a record and keeps the indexes true.
    fn update(&mut self, position: u64, change: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.records.remove(&position) else { return };
        self.unindex(position, &record);
        change(&mut record);
        self.index(position, &record);
        self.records.insert(position, record);
        self.changed.insert(position);
    }

    fn index(&mut self, position: u64, record: &Record) {
        match &record.state {
            State::Ready if record.suspect => {
                self.suspects.insert(position);
            }
            State::Ready => {
                self.ready.insert(position);
            }
            State::Leased { member, until, .. } => {
                self.due.insert((*until, position));
                let held = self.held.entry(member.clone()).or_default();
                held.leases += 1;
                held.suspects += usize::from(record.suspect);
                self.in_flight += 1;
            }
            State::Retrying { at } => {
                self.due.insert((*at, position));
            }
            State::Parked => {}
            State::Dead => self.blocked += 1,
        }
    }

    fn unindex(&mut self, position: u64, record: &Record) {
        match &record.state {
            State::Ready => {
                self.ready.remove(&position);
                self.suspects.remove(&position);
            }
            State::Leased { member, until, .. } => {
                self.due.remove(&(*until, position));
                if let Some(held) = self.held.get_mut(member) {
                    held.leases -= 1;
                    held.suspects -= usize::from(record.suspect);
                    if held.leases == 0 {
                        self.held.remove(member);
                    }
                }
                self.in_flight -= 1;
            }
            State::Retrying { at } => {
                self.due.remove(&(*at, position));
            }
            State::Parked => {}
            State::Dead => self.blocked -= 1,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
