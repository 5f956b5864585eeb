//! The breaker's states, one method each, without clock or lock.
//!
//! ```text
//! closed ──half of twenty fail──▶ open ──10 s──▶ half-open ──three good──▶ closing ──10 s──▶ closed
//!                                  ▲                 └──one bad──┐            │
//!                                  └─────────────────────────────┴─half fail──┘
//! ```

use std::time::{Duration, Instant};

use super::window::{Slots, Window};
use crate::{Breaker, standing::Event};

/// Probes that must go well, one after the other.
const PROBES: u32 = 3;
/// When to come back where only some get through.
const SOON: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Machine {
    rules: Breaker,
    state: State,
    /// One more with each state and each probe, so that what began before is told apart.
    round: u64,
    window: Window,
    slots: Slots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open { until: Instant },
    /// One at a time passes. `probe`: since when it has been under way.
    HalfOpen { probe: Option<Instant>, good: u32 },
    /// A growing share passes, and always one at a time.
    Closing { since: Instant, under_way: u32 },
}

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may.
    Free,
    /// It may, and how it ends is to be told with this number.
    Watched(u64),
    /// It may not; when to come back.
    Refused(Duration),
}

impl Machine {
    pub fn new(rules: Breaker, begun: Instant) -> Self {
        let slots = Slots::new(rules.window, begun);
        Self { rules, state: State::Closed, round: 0, window: Window::default(), slots }
    }

    /// How moments are told apart; the same for good.
    pub(super) fn slots(&self) -> Slots {
        self.slots
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// A request wants to pass. `chance`: 0 to 1, drawn.
    pub fn asked(&mut self, chance: f64, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Free,
            State::Open { until } => self.open(until, now),
            State::HalfOpen { probe, good } => self.half_open(probe, good, now),
            State::Closing { since, under_way } => self.closing(since, under_way, chance, now),
        }
    }

    /// A request that passed freely was answered.
    #[cfg(test)]
    pub fn answered(&mut self, now: Instant) {
        self.window.add(self.slots.of(now), 1, 0);
    }

    /// Good answers of a slot, of requests that passed freely.
    pub fn add(&mut self, slot: u64, requests: u64) {
        self.window.add(slot, requests, 0);
    }

    /// A request that passed freely has failed. Whether that is enough to open, by all that has been added.
    pub fn failed(&mut self, now: Instant) -> bool {
        if self.state != State::Closed {
            // It began before.
            return false;
        }
        self.window.add(self.slots.of(now), 1, 1);
        self.is_too_much(now)
    }

    pub fn is_too_much(&self, now: Instant) -> bool {
        let (requests, failures) = self.window.sum(self.slots.of(now));
        requests >= u64::from(self.rules.requests) && failures * 100 >= requests * u64::from(self.rules.percent)
    }

    pub fn open_until(&mut self, now: Instant) {
        self.enter(State::Open { until: now + self.rules.open });
    }

    /// A watched request has ended; None: in a way that says nothing.
    pub fn ended(&mut self, round: u64, event: Option<Event>, now: Instant) {
        if round != self.round {
            return;
        }
        match self.state {
            State::Closed | State::Open { .. } => {}
            State::HalfOpen { good, .. } => self.probed(good, event, now),
            State::Closing { since, under_way } => self.closing_ended(since, under_way, event, now),
        }
    }

    /// The service is known to be back: it is probed at once.
    pub fn heal(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    fn open(&mut self, until: Instant, now: Instant) -> Admission {
        if now < until {
            return Admission::Refused(until - now);
        }
        self.half_open(None, 0, now)
    }

    fn half_open(&mut self, probe: Option<Instant>, good: u32, now: Instant) -> Admission {
        // One that takes longer than this is not waited for.
        if probe.is_some_and(|since| now < since + self.rules.open) {
            return Admission::Refused(SOON);
        }
        self.enter(State::HalfOpen { probe: Some(now), good });
        Admission::Watched(self.round)
    }

    fn probed(&mut self, good: u32, event: Option<Event>, now: Instant) {
        match event {
            None => self.enter(State::HalfOpen { probe: None, good }),
            Some(Event::Answered) if good + 1 < PROBES => self.enter(State::HalfOpen { probe: None, good: good + 1 }),
            Some(Event::Answered) => {
                self.window.clear();
                self.enter(State::Closing { since: now, under_way: 0 });
            }
            Some(Event::Absent | Event::Failed) => self.open_until(now),
        }
    }

    fn closing(&mut self, since: Instant, under_way: u32, chance: f64, now: Instant) -> Admission {
        let passed = now.saturating_duration_since(since);
        if passed >= self.rules.ramp {
            self.enter(State::Closed);
            return Admission::Free;
        }
        if under_way > 0 && chance >= passed.div_duration_f64(self.rules.ramp) {
            return Admission::Refused(SOON);
        }
        self.state = State::Closing { since, under_way: under_way + 1 };
        Admission::Watched(self.round)
    }

    fn closing_ended(&mut self, since: Instant, under_way: u32, event: Option<Event>, now: Instant) {
        self.state = State::Closing { since, under_way: under_way.saturating_sub(1) };
        let Some(event) = event else { return };
        self.window.add(self.slots.of(now), 1, u64::from(event != Event::Answered));
        if self.is_too_much(now) {
            self.open_until(now);
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn machine() -> (Machine, Instant) {
        let now = Instant::now();
        (Machine::new(Breaker::default(), now), now)
    }

    fn opened() -> (Machine, Instant) {
        let (mut machine, now) = machine();
        machine.open_until(now);
        (machine, now)
    }

    fn watched(machine: &mut Machine, chance: f64, now: Instant) -> u64 {
        match machine.asked(chance, now) {
            Admission::Watched(round) => round,
            other => panic!("{other:?}"),
        }
    }

    /// Through three probes into the ramp.
    fn closing() -> (Machine, Instant) {
        let (mut machine, now) = opened();
        let now = now + 10 * S;
        for _ in 0..PROBES {
            let round = watched(&mut machine, 0.0, now);
            machine.ended(round, Some(Event::Answered), now);
        }
        assert_eq!(machine.state(), State::Closing { since: now, under_way: 0 });
        (machine, now)
    }

    #[test]
    fn half_of_twenty_failures_are_too_much() {
        let (mut machine, now) = machine();
        machine.add(machine.slots.of(now), 10);
        for _ in 0..9 {
            assert!(!machine.failed(now));
        }
        assert!(machine.failed(now), "ten of twenty");
    }

    #[test]
    fn nineteen_failures_are_too_few_and_so_is_less_than_half() {
        let (mut machine, now) = machine();
        assert!((0..19).all(|_| !machine.failed(now)));
        machine.add(machine.slots.of(now), 1000);
        assert!((0..900).all(|_| !machine.failed(now)));
    }

    #[test]
    fn failures_are_forgotten_after_ten_seconds() {
        let (mut machine, now) = machine();
        assert!((0..19).all(|_| !machine.failed(now)));
        assert!(!machine.failed(now + 10 * S));
    }

    #[test]
    fn open_refuses_and_says_for_how_long() {
        let (mut machine, now) = opened();
        assert_eq!(machine.asked(0.0, now + 3 * S), Admission::Refused(7 * S));
        assert!(!machine.failed(now), "that began before");
    }

    #[test]
    fn half_open_lets_one_at_a_time_through() {
        let (mut machine, now) = opened();
        let now = now + 10 * S;
        let first = watched(&mut machine, 0.0, now);
        assert_eq!(machine.asked(0.0, now), Admission::Refused(SOON));
        machine.ended(first, Some(Event::Answered), now);
        let second = watched(&mut machine, 0.0, now);
        machine.ended(first, Some(Event::Failed), now);
        assert!(matches!(machine.state(), State::HalfOpen { good: 1, .. }), "the first one has had its say");
        machine.ended(second, Some(Event::Failed), now);
        assert_eq!(machine.state(), State::Open { until: now + 10 * S });
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_another() {
        let (mut machine, now) = opened();
        let now = now + 10 * S;
        let round = watched(&mut machine, 0.0, now);
        machine.ended(round, None, now);
        watched(&mut machine, 0.0, now);
        assert_eq!(machine.asked(0.0, now + 9 * S), Admission::Refused(SOON));
        watched(&mut machine, 0.0, now + 10 * S);
    }

    #[test]
    fn closing_lets_a_growing_share_through_and_always_one() {
        let (mut machine, now) = closing();
        watched(&mut machine, 1.0, now);
        assert_eq!(machine.asked(0.0, now), Admission::Refused(SOON));
        assert_eq!(machine.asked(0.31, now + 3 * S), Admission::Refused(SOON));
        watched(&mut machine, 0.29, now + 3 * S);
        assert_eq!(machine.asked(1.0, now + 10 * S), Admission::Free);
        assert_eq!(machine.state(), State::Closed);
    }

    #[test]
    fn closing_opens_again_where_half_fails() {
        let (mut machine, now) = closing();
        let now = now + 5 * S;
        for _ in 0..20 {
            assert!(matches!(machine.state(), State::Closing { .. }));
            let round = watched(&mut machine, 0.0, now);
            machine.ended(round, Some(Event::Failed), now);
        }
        assert_eq!(machine.state(), State::Open { until: now + 10 * S });
    }

    #[test]
    fn a_service_that_is_back_is_probed_at_once() {
        let (mut machine, now) = opened();
        machine.heal(now + S);
        watched(&mut machine, 0.0, now + S);
    }
}
