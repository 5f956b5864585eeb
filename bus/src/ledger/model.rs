//! The ledger against a model of it that is too simple to be wrong: every event in one map, whatever can be leased found by
//! looking at all of them. Random claims, settlements of all kinds, expiries, seeks, cuts, trims, redriven and discarded
//! letters; what is stored is read back now and then. `TURNPIKE_SEEDS` says how many histories; a failure names its seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Fate, Ledger, Lessee, Record, Room, State};
use crate::{Mode, OnDead, Verb, retry};

const SEEDS: u64 = 64;
const STEPS: usize = 400;
const LEASE: i64 = 30_000;

#[derive(Clone, Debug, PartialEq)]
enum At {
    Free,
    Leased {
        secret: u64,
        member: usize,
        until: i64,
    },
    Later(i64),
    /// Dead, and in the way.
    Blocks,
}

#[derive(Clone, Debug)]
struct Event {
    key: u64,
    at: At,
    failures: u32,
    expiries: u32,
    suspect: bool,
    redrive: u32,
}

struct Model {
    mode: Mode,
    on_dead: OnDead,
    next: u64,
    events: BTreeMap<u64, Event>,
    /// Keyed mode: the event whose turn it is.
    turns: BTreeMap<u64, u64>,
    /// Dead letters that are not with their group: key, and how often they were redriven.
    letters: BTreeMap<u64, (u64, u32)>,
}

impl Model {
    fn add(&mut self, position: u64, event: Event) {
        self.turns.entry(event.key).or_insert(position);
        self.events.insert(position, event);
    }

    fn take_out(&mut self, position: u64) -> Option<Event> {
        let event = self.events.remove(&position)?;
        if self.turns.get(&event.key) == Some(&position) {
            self.turns.remove(&event.key);
            if let Some((next, _)) = self.events.iter().find(|(_, other)| other.key == event.key) {
                self.turns.insert(event.key, *next);
            }
        }
        Some(event)
    }

    fn waits(&self, position: u64) -> bool {
        self.mode == Mode::Keyed
            && self.events.get(&position).is_some_and(|event| self.turns.get(&event.key) != Some(&position))
    }

    fn is_held_back(&self, position: u64) -> bool {
        self.mode == Mode::Exclusive
            && self.events.range(..position).any(|(_, event)| !matches!(event.at, At::Leased { .. }))
    }

    fn free(&self, suspect: bool) -> Option<u64> {
        let mut free = self
            .events
            .iter()
            .filter(|(position, event)| event.at == At::Free && event.suspect == suspect && !self.waits(**position));
        free.next().map(|(position, _)| *position)
    }

    fn leases(&self, member: usize) -> usize {
        self.events.values().filter(|event| matches!(event.at, At::Leased { member: of, .. } if of == member)).count()
    }

    fn set(&mut self, position: u64, change: impl FnOnce(&mut Event)) {
        change(self.events.get_mut(&position).unwrap());
    }

    /// An exclusive group's order: what was leased behind it comes again.
    fn call_back(&mut self, position: u64) {
        if self.mode == Mode::Exclusive {
            for (_, event) in self.events.range_mut(position + 1..) {
                if matches!(event.at, At::Leased { .. }) {
                    event.at = At::Free;
                }
            }
        }
    }

    fn later(&mut self, position: u64, at: i64) {
        self.set(position, |event| event.at = At::Later(at));
        self.call_back(position);
    }

    fn fail(&mut self, position: u64, now: i64, delay: Option<i64>) {
        self.set(position, |event| event.failures += 1);
        match retry::delay(self.events[&position].failures, 0.5) {
            None => self.die(position),
            Some(scheduled) => {
                self.later(position, now + delay.unwrap_or(i64::try_from(scheduled.as_millis()).unwrap()));
            }
        }
    }

    fn die(&mut self, position: u64) {
        let Event { key, redrive, .. } = self.events[&position];
        self.letters.insert(position, (key, redrive));
        if self.on_dead == OnDead::Block && self.mode != Mode::Parallel {
            self.events
                .insert(position, Event { key, at: At::Blocks, failures: 0, expiries: 0, suspect: false, redrive });
            self.call_back(position);
        } else {
            self.take_out(position);
        }
    }

    fn expire(&mut self, now: i64) {
        let mut over: Vec<(i64, u64, bool)> = Vec::new();
        for (position, event) in &self.events {
            match event.at {
                At::Leased { member, until, .. } if until <= now => {
                    over.push((until, *position, self.leases(member) == 1));
                }
                At::Later(at) if at <= now => over.push((at, *position, false)),
                _ => {}
            }
        }
        over.sort_unstable();
        for (_, position, alone) in over {
            match self.events[&position].at {
                At::Later(_) => self.set(position, |event| event.at = At::Free),
                At::Leased { .. } => {
                    self.set(position, |event| event.suspect = true);
                    if !alone {
                        self.set(position, |event| event.at = At::Free);
                        self.call_back(position);
                        continue;
                    }
                    self.set(position, |event| event.expiries += 1);
                    match self.events[&position].expiries {
                        3 => self.die(position),
                        _ => self.fail(position, now, None),
                    }
                }
                At::Free | At::Blocks => {}
            }
        }
    }

    /// What was with its group and is dropped there is a dead letter again.
    fn drop_events(&mut self, positions: Vec<u64>) {
        for position in positions.into_iter().rev() {
            let Some(event) = self.take_out(position) else { continue };
            if event.redrive > 0 {
                self.letters.insert(position, (event.key, event.redrive));
            }
        }
    }
}

/// A ledger, its model, and what is stored of it.
struct Pair {
    rng: StdRng,
    ledger: Ledger,
    model: Model,
    stored: BTreeMap<u64, Record>,
    place: (u64, u64),
    /// The keys of the log's events, from position 1 on.
    log: Vec<u64>,
    now: i64,
    secrets: u64,
    members: [Arc<str>; 3],
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mode = [Mode::Parallel, Mode::Keyed, Mode::Exclusive][usize::try_from(seed % 3).unwrap()];
        let on_dead = if (seed / 3).is_multiple_of(2) { OnDead::Continue } else { OnDead::Block };
        let model =
            Model { mode, on_dead, next: 1, events: BTreeMap::new(), turns: BTreeMap::new(), letters: BTreeMap::new() };
        Self {
            rng: StdRng::seed_from_u64(seed),
            ledger: Ledger::new(mode, 1).with_on_dead(on_dead),
            model,
            stored: BTreeMap::new(),
            place: (1, 1),
            log: Vec::new(),
            now: 1_000_000,
            secrets: 0,
            members: ["a", "b", "c"].map(Into::into),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..20 => (0..self.rng.random_range(1..4)).for_each(|_| self.log.push(self.rng.random_range(1..5))),
            20..50 => self.claim(),
            50..80 => self.settle(),
            80..87 => {
                self.now += self.rng.random_range(1..LEASE * 2);
                let held: BTreeMap<String, usize> =
                    self.ledger.holders().map(|(member, leases)| (member.to_owned(), leases)).collect();
                self.ledger.expire(self.now, |member| held.get(member).copied().unwrap_or(0), || 0.5);
                self.model.expire(self.now);
            }
            87..93 => self.redrive(),
            93..95 => self.discard(),
            95 => self.seek(),
            96 => self.cut(),
            97 => self.trim(),
            98 => {
                let on_dead = [OnDead::Continue, OnDead::Block][self.rng.random_range(0..2)];
                self.model.on_dead = on_dead;
                self.ledger.set_on_dead(on_dead);
                if on_dead == OnDead::Continue {
                    let blocking = self.model.events.iter().filter(|(_, event)| event.at == At::Blocks);
                    for position in blocking.map(|(position, _)| *position).collect::<Vec<_>>() {
                        self.model.take_out(position);
                    }
                }
            }
            _ => self.restart(),
        }
    }

    fn claim(&mut self) {
        let member = self.rng.random_range(0..3);
        let mut max = self.rng.random_range(1..4);
        let name = self.members[member].clone();
        let lessee = |ledger: &Ledger| (ledger.held(&name), ledger.holds_suspect(&name));
        let (held, holds_suspect) = lessee(&self.ledger);
        assert_eq!(held, self.model.leases(member));
        match self.ledger.room(&Lessee { held, holds_suspect, of_this_claim: 0 }) {
            Room::Nothing => {
                let is_held = self.model.events.values().any(|event| matches!(event.at, At::Leased { .. }));
                let waits = holds_suspect || (held > 0 && self.model.free(true).is_some());
                assert!(waits || (self.model.mode == Mode::Exclusive && is_held), "there is room");
            }
            Room::Suspect(position) => {
                assert_eq!((Some(position), held), (self.model.free(true), 0));
                assert!(!self.model.is_held_back(position));
                self.lease(position, member);
            }
            Room::Events(_) => {
                while max > 0
                    && let Some(position) = self.ledger.first_ready()
                {
                    self.lease(position, member);
                    max -= 1;
                }
                while max > 0 && self.ledger.takes_new() && self.model.next <= self.log.len() as u64 {
                    let position = self.model.next;
                    assert!(!self.model.is_held_back(position), "nothing is taken past what comes again");
                    let key = self.log[usize::try_from(position).unwrap() - 1];
                    self.model.next += 1;
                    if self.ledger.record(position).is_some() || self.rng.random_bool(0.1) {
                        self.ledger.pass();
                        continue;
                    }
                    let ready = self.ledger.take(key);
                    self.model.add(
                        position,
                        Event { key, at: At::Free, failures: 0, expiries: 0, suspect: false, redrive: 0 },
                    );
                    assert_eq!(ready, !self.model.waits(position));
                    if ready {
                        self.lease(position, member);
                        max -= 1;
                    }
                }
            }
        }
    }

    fn lease(&mut self, position: u64, member: usize) {
        let event = &self.model.events[&position];
        assert!(event.at == At::Free && !self.model.waits(position), "{position} can't be leased: {event:?}");
        assert!(!self.model.is_held_back(position), "{position} comes after another");
        self.secrets += 1;
        let (secret, until) = (self.secrets, self.now + LEASE);
        self.ledger.lease(position, &self.members[member].clone(), secret, self.now, until);
        self.model.set(position, |event| event.at = At::Leased { secret, member, until });
    }

    fn settle(&mut self) {
        let leased: Vec<(u64, u64, i64)> = self
            .model
            .events
            .iter()
            .filter_map(|(position, event)| match event.at {
                At::Leased { secret, until, .. } => Some((*position, secret, until)),
                _ => None,
            })
            .collect();
        if leased.is_empty() {
            return;
        }
        let (position, mut secret, until) = leased[self.rng.random_range(0..leased.len())];
        if self.rng.random_bool(0.1) {
            secret = self.rng.random_range(0..=self.secrets);
        }
        let held = leased.iter().any(|(at, valid, _)| *at == position && *valid == secret);
        let delay = Duration::from_secs(self.rng.random_range(0..100));
        let millis = i64::try_from(delay.as_millis()).unwrap();
        let (verb, reason) = (self.rng.random_range(0..10), || "no".to_owned());
        let (settled, now) = (
            match verb {
                0..4 => Verb::Ack,
                4 => Verb::Nack { delay: Some(delay), reason: reason(), retryable: true },
                5 => Verb::Nack { delay: None, reason: reason(), retryable: true },
                6 => Verb::Dead { reason: reason() },
                7 => Verb::Release,
                8 => Verb::Defer { delay },
                _ => Verb::Extend,
            },
            self.now,
        );
        let fate = self.ledger.settle(position, secret, settled, now, now + LEASE, 0.5);
        if !held || until <= now {
            fate.unwrap_err();
            return;
        }
        let model = &mut self.model;
        match verb {
            0..4 => drop(model.take_out(position)),
            4 | 5 => {
                model.set(position, |event| event.suspect = false);
                model.fail(position, now, (verb == 4).then_some(millis));
            }
            6 => {
                model.set(position, |event| event.failures += 1);
                model.die(position);
            }
            7 => {
                model.set(position, |event| event.at = At::Free);
                model.call_back(position);
            }
            8 => {
                model.set(position, |event| event.suspect = false);
                model.later(position, now + millis);
            }
            _ => model.set(position, |event| {
                if let At::Leased { until, .. } = &mut event.at {
                    *until = now + LEASE;
                }
            }),
        }
        let dead =
            (4..=6).contains(&verb) && self.model.events.get(&position).is_none_or(|event| event.at == At::Blocks);
        assert_eq!(matches!(fate.unwrap(), Fate::Dead { .. }), dead, "{position}");
    }

    fn some_letter(&mut self) -> Option<u64> {
        let letters: Vec<u64> = self.model.letters.keys().copied().collect();
        (!letters.is_empty()).then(|| letters[self.rng.random_range(0..letters.len())])
    }

    fn redrive(&mut self) {
        let Some(position) = self.some_letter() else { return };
        let unsettled = self.model.events.get(&position).is_some_and(|event| event.at != At::Blocks);
        assert_eq!(self.ledger.holds(position), unsettled || position >= self.model.next);
        if self.ledger.holds(position) {
            return;
        }
        let (key, redrive) = self.model.letters.remove(&position).map(|(key, redrive)| (key, redrive + 1)).unwrap();
        let at = self.now + 10;
        self.ledger.redrive(position, key, redrive, at);
        if !self.model.events.contains_key(&position) {
            let event = Event { key, at: At::Free, failures: 0, expiries: 0, suspect: false, redrive };
            self.model.add(position, event);
        }
        let waits = self.model.waits(position);
        self.model.set(position, |event| {
            event.redrive = redrive;
            event.at = if waits { At::Free } else { At::Later(at) };
        });
    }

    fn discard(&mut self) {
        let Some(position) = self.some_letter() else { return };
        self.model.letters.remove(&position);
        self.ledger.discard(position);
        if self.model.events.get(&position).is_some_and(|event| event.at == At::Blocks) {
            self.model.take_out(position);
        }
    }

    fn seek(&mut self) {
        let to = self.rng.random_range(1..=self.log.len() as u64 + 1);
        self.ledger.seek(to);
        let all = self.model.events.keys().copied().collect();
        self.model.drop_events(all);
        self.model.next = to;
    }

    /// The log goes on from an earlier place: what it knew of is other events now.
    fn cut(&mut self) {
        let cut = self.rng.random_range(1..=self.log.len() as u64 + 1);
        let known = self.model.events.range(cut..).map(|(position, _)| *position).collect::<Vec<_>>();
        assert_eq!(self.ledger.rewind(cut), !known.is_empty());
        self.model.drop_events(known);
        self.model.next = self.model.next.min(cut);
        self.log.truncate(usize::try_from(cut).unwrap() - 1);
    }

    /// A log that is full begins later than the group had come.
    fn trim(&mut self) {
        let floor = self.rng.random_range(1..=self.log.len() as u64 + 1);
        self.ledger.lose(floor);
        let lost: Vec<u64> = self
            .model
            .events
            .range(..floor)
            .filter(|(_, event)| event.redrive == 0 && event.at != At::Blocks)
            .map(|(position, _)| *position)
            .collect();
        self.model.drop_events(lost);
        self.model.next = self.model.next.max(floor);
    }

    /// What is stored is read back.
    fn restart(&mut self) {
        let (mode, (start, next)) = (self.model.mode, self.place);
        let records = self.stored.iter().map(|(position, record)| (*position, record.clone())).collect();
        self.ledger = Ledger::restore(mode, start, next, records).with_on_dead(self.model.on_dead);
        assert!(!self.ledger.has_changes(), "it is what was stored");
    }

    fn store(&mut self) {
        let start = self.ledger.start();
        let (records, next) = self.ledger.take_changes();
        for (position, record) in records {
            match record {
                Some(record) => drop(self.stored.insert(position, record.clone())),
                None => drop(self.stored.remove(&position)),
            }
        }
        if let Some(next) = next {
            self.place = (start, next);
        }
    }

    fn compare(&self) {
        let (ledger, model) = (&self.ledger, &self.model);
        assert_eq!(ledger.next(), model.next);
        let known: BTreeSet<u64> = ledger.records.keys().copied().collect();
        assert_eq!(known, model.events.keys().copied().collect());
        for (position, event) in &model.events {
            let record = ledger.record(*position).unwrap();
            let same = match (&event.at, &record.state) {
                (At::Free, State::Ready) => !model.waits(*position),
                (At::Free, State::Parked) => model.waits(*position),
                (At::Leased { secret, until, .. }, State::Leased { secret: valid, until: end, .. }) => {
                    secret == valid && until == end
                }
                (At::Later(at), State::Retrying { at: other }) => at == other,
                (At::Blocks, State::Dead) => true,
                _ => false,
            };
            assert!(same, "{position}: {event:?}, {record:?}");
            let counts = (record.key, record.failures, record.expiries, record.suspect, record.redrive);
            assert_eq!(counts, (event.key, event.failures, event.expiries, event.suspect, event.redrive), "{position}");
        }
        let count = |at: fn(&At) -> bool| model.events.values().filter(|event| at(&event.at)).count();
        assert_eq!(ledger.in_flight(), count(|at| matches!(at, At::Leased { .. })));
        assert_eq!(ledger.blocked(), count(|at| *at == At::Blocks));
        assert_eq!(ledger.unsettled(), count(|at| *at != At::Blocks));
        assert_eq!(ledger.first_ready(), model.free(false).filter(|position| !model.is_held_back(*position)));
        let due = model.events.values().filter_map(|event| match event.at {
            At::Leased { until, .. } => Some(until),
            At::Later(at) => Some(at),
            At::Free | At::Blocks => None,
        });
        assert_eq!(ledger.next_due(), due.min());
    }
}

#[test]
fn it_does_what_its_model_does() {
    let seeds = std::env::var("TURNPIKE_SEEDS").ok().map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let mut pair = Pair::new(seed);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                pair.step();
                pair.store();
                pair.compare();
            }
        }));
        assert!(done.is_ok(), "seed {seed}");
    }
}
