//! Gives a service that fails a rest: most requests to it would fail anyway, and each would keep its caller waiting and the
//! service from recovering. One for the whole upstream, all cores together; what it counts are requests, not tries.
//!
//! Closed, it costs a request two loads and a count that is its core's own: good answers are handed over slot by slot, a
//! failure at once. Before it opens, what the cores have yet to hand over is collected, so that it opens by all of it.

mod machine;
mod window;

pub(crate) use machine::{Admission, Machine, State};
use window::Slots;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{ConfigError, metrics, standing::Event};

/// When an upstream is given a rest because requests to it fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// It opens where so many of a hundred requests fail, 1 to 100; default 50.
    pub percent: u32,
    /// And no fewer were sent, 1 to 1,000,000; default 20.
    pub requests: u32,
    /// Both within this time, 10 ms to 1 h; default 10 s.
    pub window: Duration,
    /// How long nothing passes then, before one request at a time does, up to 1 h; default 10 s.
    pub open: Duration,
    /// After three of those went well, the time until everything passes, up to 1 h; default 10 s.
    pub ramp: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { percent: 50, requests: 20, window: ten, open: ten, ramp: ten }
    }
}

impl Breaker {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        const LONGEST: Duration = Duration::from_secs(3600);
        let refuse =
            |key: &str, message: &str| Err(ConfigError { path: format!("breaker.{key}"), message: message.to_owned() });
        if !(1..=100).contains(&self.percent) {
            return refuse("percent", "must be within 1 to 100");
        }
        if !(1..=1_000_000).contains(&self.requests) {
            return refuse("requests", "must be within 1 to 1000000");
        }
        if !(Duration::from_millis(10)..=LONGEST).contains(&self.window) {
            return refuse("window", "must be within 10ms to 1h");
        }
        if self.open.is_zero() || self.open > LONGEST {
            return refuse("open", "must be above 0 and at most 1h");
        }
        if self.ramp > LONGEST {
            return refuse("ramp", "must be at most 1h");
        }
        Ok(())
    }
}

/// The breaker of an upstream.
pub(crate) struct Gate {
    upstream: String,
    is_closed: AtomicBool,
    machine: Mutex<Machine>,
    slots: Slots,
    gauge: metrics::Position,
}

/// Good answers that a core has yet to hand over: the slot in the upper half, how many in the lower.
#[derive(Default)]
pub(crate) struct Tally(AtomicU64);

/// A request that passed while the breaker wasn't closed. Dropped, it has ended in a way that says nothing.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    round: u64,
    event: Option<Event>,
}

/// How a breaker stands, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BreakerState {
    /// `closed`, `open`, `half-open`, `closing`
    pub state: &'static str,
    /// Seconds until it is half-open; only while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open_in_seconds: Option<u64>,
}

impl Gate {
    pub fn new(upstream: &str, rules: &Breaker) -> Self {
        let machine = Machine::new(rules.clone(), Instant::now());
        Self {
            upstream: upstream.to_owned(),
            is_closed: AtomicBool::new(true),
            slots: machine.slots(),
            machine: Mutex::new(machine),
            gauge: metrics::Position::new(upstream),
        }
    }

    /// Whether a request may pass, and what then to tell how it ended; else when to come back.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Option<Pass>, Duration> {
        if self.is_closed.load(Relaxed) {
            return Ok(None);
        }
        let chance = rand::random();
        match self.change(now, |machine| machine.asked(chance, now)) {
            Admission::Free => Ok(None),
            Admission::Watched(round) => Ok(Some(Pass { gate: Arc::clone(self), round, event: None })),
            Admission::Refused(retry_after) => Err(retry_after),
        }
    }

    /// How a request ended that nobody watches. `tallies`: those of all cores.
    pub fn ended(&self, event: Event, tally: &Tally, now: Instant, tallies: impl FnOnce(&mut dyn FnMut(&Tally))) {
        if event == Event::Answered {
            if let Some((slot, requests)) = tally.count(self.slots.of(now)) {
                self.machine.lock().add(slot, requests);
            }
            return;
        }
        self.change(now, |machine| {
            if !machine.failed(now) {
                return;
            }
            tallies(&mut |tally| {
                let (slot, requests) = tally.take();
                machine.add(slot, requests);
            });
            if machine.is_too_much(now) {
                machine.open_until(now);
            }
        });
    }

    /// The service is known to be back.
    pub fn heal(&self, now: Instant) {
        if !self.is_closed.load(Relaxed) {
            self.change(now, |machine| machine.heal(now));
        }
    }

    pub fn view(&self, now: Instant) -> BreakerState {
        let state = self.machine.lock().state();
        let opens = match state {
            State::Open { until } => Some(until.saturating_duration_since(now).as_secs_f64().ceil() as u64),
            _ => None,
        };
        BreakerState { state: name(state), half_open_in_seconds: opens }
    }

    fn change<R>(&self, now: Instant, change: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.lock();
        let before = machine.state();
        let result = change(&mut machine);
        let after = machine.state();
        if name(before) != name(after) {
            self.is_closed.store(after == State::Closed, Relaxed);
            self.gauge.set(position(after));
            let (upstream, state) = (&self.upstream, name(after));
            match after {
                State::Open { until } => {
                    let seconds = until.saturating_duration_since(now).as_secs();
                    tracing::warn!(upstream, state, seconds, "breaker opened: too many requests failed");
                }
                _ => tracing::info!(upstream, state, "breaker changed"),
            }
        }
        result
    }
}

impl Pass {
    pub fn end(mut self, event: Option<Event>) {
        self.event = event;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let now = Instant::now();
        self.gate.change(now, |machine| machine.ended(self.round, self.event, now));
    }
}

impl Tally {
    /// Counts one. What was counted in another slot, where that is over.
    fn count(&self, slot: u64) -> Option<(u64, u64)> {
        if self.0.load(Relaxed) >> 32 == slot {
            self.0.fetch_add(1, Relaxed);
            return None;
        }
        let (over, requests) = split(self.0.swap(slot << 32 | 1, Relaxed));
        (requests > 0).then_some((over, requests))
    }

    /// All that was counted and not yet handed over.
    fn take(&self) -> (u64, u64) {
        split(self.0.swap(0, Relaxed))
    }
}

fn split(packed: u64) -> (u64, u64) {
    (packed >> 32, packed & u64::from(u32::MAX))
}

fn name(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open { .. } => "open",
        State::HalfOpen { .. } => "half-open",
        State::Closing { .. } => "closing",
    }
}

/// As a number, the more the less passes.
fn position(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::Closing { .. } => 1,
        State::HalfOpen { .. } => 2,
        State::Open { .. } => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(gate: &Gate, tally: &Tally, all: &[&Tally], times: usize) {
        for _ in 0..times {
            gate.ended(Event::Failed, tally, Instant::now(), |visit| all.iter().for_each(|tally| visit(tally)));
        }
    }

    #[test]
    fn it_opens_by_what_all_cores_have_seen() {
        let gate = Arc::new(Gate::new("gate-all", &Breaker::default()));
        let (one, other) = (Tally::default(), Tally::default());
        let now = Instant::now();
        for _ in 0..100 {
            gate.ended(Event::Answered, &one, now, |_| ());
        }
        fail(&gate, &other, &[&one, &other], 99);
        assert!(gate.admit(now).is_ok(), "99 of 199");
        fail(&gate, &other, &[&one, &other], 1);
        assert!(gate.admit(now).is_err(), "half of them");
        assert_eq!(gate.view(Instant::now()).state, "open");
    }

    #[test]
    fn good_answers_are_counted_once() {
        let tally = Tally::default();
        assert_eq!(tally.count(7), None);
        assert_eq!(tally.count(7), None);
        assert_eq!(tally.count(8), Some((7, 2)));
        assert_eq!(tally.take(), (8, 1));
        assert_eq!(tally.take(), (0, 0));
    }

    #[test]
    fn a_pass_that_is_dropped_makes_room_for_the_next() {
        let gate =
            Arc::new(Gate::new("gate-dropped", &Breaker { open: Duration::from_nanos(1), ..Breaker::default() }));
        let tally = Tally::default();
        fail(&gate, &tally, &[], 20);
        for _ in 0..3 {
            let pass = gate.admit(Instant::now()).unwrap();
            assert!(pass.is_some());
            drop(pass);
        }
        assert_eq!(gate.view(Instant::now()).state, "half-open");
        for _ in 0..3 {
            gate.admit(Instant::now()).unwrap().unwrap().end(Some(Event::Answered));
        }
        assert_eq!(gate.view(Instant::now()).state, "closing");
    }
}
