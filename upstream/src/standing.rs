//! How an endpoint stands with those who call it, by how their requests fare: one method a state, and no clock, lock or
//! socket of its own.
//!
//! ```text
//! well ──nobody listens──▶ avoided ──a second, or an answer──▶ well
//!   └──5 failures in a row──▶ ejected ──30 s × n──▶ warming ──slow start──▶ well
//! ```
//!
//! An endpoint that nobody listens at is avoided at once, for a second at a time and only where there are others. One that
//! fails again and again is ejected: it gets nothing. How many may be out at once is the [`Roster`]'s to say. What ends by
//! itself ends by the clock, whoever looks next: no traffic is needed for an endpoint to come back.
//!
//! Failures that happen together, as when a connection breaks with all its streams, are one failure.

use std::time::{Duration, Instant};

use crate::{ConfigError, roster::Roster};

/// When an endpoint gets nothing for a while because its requests fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row, 1 to 1,000; default 5. Failures within 10 ms of each other are one.
    pub failures: u32,
    /// How long it is out the first time, above 0; the second time twice as long, and so on. For each 10 s that it is in,
    /// one time is forgotten. Default 30 s.
    pub time: Duration,
    /// The longest it is out, no less than `time`; default 300 s.
    pub longest: Duration,
    /// The most of an upstream's endpoints that are out at once, 1 to 100, but always one. Default 10.
    pub percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, time: Duration::from_secs(30), longest: Duration::from_secs(300), percent: 10 }
    }
}

impl Ejection {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: &str| {
            Err(ConfigError { path: format!("ejection.{key}"), message: message.to_owned() })
        };
        if !(1..=1000).contains(&self.failures) {
            return refuse("failures", "must be within 1 to 1000");
        }
        if self.time.is_zero() {
            return refuse("time", "must be above 0");
        }
        if self.longest < self.time {
            return refuse("longest", "must not be shorter than `time`");
        }
        if !(1..=100).contains(&self.percent) {
            return refuse("percent", "must be within 1 to 100");
        }
        Ok(())
    }
}

/// How long an endpoint is avoided where nobody listens.
const AVOIDED: Duration = Duration::from_secs(1);
/// Failures closer to each other than this are one.
const TOGETHER: Duration = Duration::from_millis(10);
/// For each of these that an endpoint has been in, one of its ejections is forgotten.
const SWEEP: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Standing {
    /// None: it is never ejected.
    ejection: Option<Ejection>,
    slow_start: Duration,
    state: State,
    /// In a row, since the last answer.
    failures: u32,
    failed_at: Option<Instant>,
    /// What the next ejection is multiplied by, less one.
    ejections: u32,
    /// When the last ejection ended.
    back_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    /// Nobody listened there: others go first.
    Avoided {
        until: Instant,
    },
    /// It failed too often: it gets nothing.
    Ejected {
        until: Instant,
    },
    /// It is new, or back: its share grows.
    Warming {
        since: Instant,
    },
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It answered, and not that it can't.
    Answered,
    /// No connection could be made.
    Absent,
    /// It broke off, was silent until the deadline, or answered that it can't.
    Failed,
}

impl Standing {
    pub fn new(ejection: Option<Ejection>, slow_start: Duration) -> Self {
        let state = State::Well;
        Self { ejection, slow_start, state, failures: 0, failed_at: None, ejections: 0, back_since: None }
    }

    /// As it is now.
    pub fn state(&mut self, now: Instant) -> State {
        self.settle(now);
        self.state
    }

    /// As it was when it was last looked at.
    pub fn last(&self) -> State {
        self.state
    }

    /// Failures since the last answer.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often it has been ejected of late.
    pub fn ejections(&self) -> u32 {
        self.ejections
    }

    /// Whether an answer would change anything.
    pub fn is_troubled(&self) -> bool {
        self.failures > 0 || matches!(self.state, State::Avoided { .. })
    }

    /// Takes in what became of a try. Whether the state is another one now.
    pub fn after(&mut self, event: Event, roster: &Roster, now: Instant) -> bool {
        self.settle(now);
        let next = match self.state {
            State::Well => self.well(event, roster, now),
            State::Avoided { until } => self.avoided(until, event, roster, now),
            State::Ejected { until } => self.ejected(until),
            State::Warming { since } => self.warming(since, event, roster, now),
        };
        let changed = std::mem::discriminant(&next) != std::mem::discriminant(&self.state);
        self.state = next;
        changed
    }

    /// It is new among others, or found well again: what was known of it no longer holds.
    pub fn begin_anew(&mut self, now: Instant) {
        self.failures = 0;
        self.state = self.warm(now);
    }

    fn well(&mut self, event: Event, roster: &Roster, now: Instant) -> State {
        match event {
            Event::Answered => self.answered(State::Well),
            Event::Absent => self.count(roster, now).unwrap_or(State::Avoided { until: now + AVOIDED }),
            Event::Failed => self.count(roster, now).unwrap_or(State::Well),
        }
    }

    fn avoided(&mut self, until: Instant, event: Event, roster: &Roster, now: Instant) -> State {
        match event {
            Event::Answered => self.answered(State::Well),
            Event::Absent => self.count(roster, now).unwrap_or(State::Avoided { until: now + AVOIDED }),
            Event::Failed => self.count(roster, now).unwrap_or(State::Avoided { until }),
        }
    }

    /// What was under way may still end, and where too many are out it is asked all the same: the time stands.
    fn ejected(&self, until: Instant) -> State {
        State::Ejected { until }
    }

    fn warming(&mut self, since: Instant, event: Event, roster: &Roster, now: Instant) -> State {
        match event {
            Event::Answered => self.answered(State::Warming { since }),
            Event::Absent => self.count(roster, now).unwrap_or(State::Avoided { until: now + AVOIDED }),
            Event::Failed => self.count(roster, now).unwrap_or(State::Warming { since }),
        }
    }

    fn answered(&mut self, next: State) -> State {
        self.failures = 0;
        next
    }

    /// Counts a failure. The ejection that follows, if one does.
    fn count(&mut self, roster: &Roster, now: Instant) -> Option<State> {
        if self.failed_at.is_none_or(|before| now.saturating_duration_since(before) >= TOGETHER) {
            self.failures = self.failures.saturating_add(1);
            self.failed_at = Some(now);
        }
        let ejection = self.ejection.as_ref().filter(|ejection| self.failures >= ejection.failures)?;
        if let Some(back) = self.back_since.take() {
            let calm = now.saturating_duration_since(back).as_secs() / SWEEP.as_secs();
            self.ejections = self.ejections.saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX));
        }
        let time = ejection.time.saturating_mul(self.ejections + 1).min(ejection.longest);
        let until = now + time;
        if !roster.eject(ejection.percent, until, now) {
            return None;
        }
        self.ejections += 1;
        self.failures = 0;
        Some(State::Ejected { until })
    }

    /// Ends what has ended by the clock.
    fn settle(&mut self, now: Instant) {
        match self.state {
            State::Avoided { until } if until <= now => self.state = State::Well,
            State::Ejected { until } if until <= now => {
                self.back_since = Some(until);
                self.state = self.warm(until);
                self.settle(now);
            }
            State::Warming { since } if since + self.slow_start <= now => self.state = State::Well,
            _ => {}
        }
    }

    fn warm(&self, since: Instant) -> State {
        if self.slow_start.is_zero() { State::Well } else { State::Warming { since } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    struct Endpoint {
        standing: Standing,
        roster: Roster,
        now: Instant,
    }

    impl Endpoint {
        fn new(slow_start: Duration) -> Self {
            let roster = Roster::default();
            roster.resize(10);
            Self { standing: Standing::new(Some(Ejection::default()), slow_start), roster, now: Instant::now() }
        }

        fn after(&mut self, event: Event) -> State {
            self.standing.after(event, &self.roster, self.now);
            self.standing.state
        }

        fn fails(&mut self, times: u32) -> State {
            for _ in 0..times {
                self.now += TOGETHER;
                self.after(Event::Failed);
            }
            self.standing.state
        }

        fn later(&mut self, time: Duration) -> State {
            self.now += time;
            self.standing.state(self.now)
        }

        /// For how long it is ejected when it fails now.
        fn ejected_for(&mut self) -> Duration {
            match self.fails(5) {
                State::Ejected { until } => until - self.now,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn where_nobody_listens_it_is_avoided_for_a_second() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        assert!(matches!(endpoint.after(Event::Absent), State::Avoided { .. }));
        assert!(matches!(endpoint.later(S / 2), State::Avoided { .. }));
        assert_eq!(endpoint.later(S / 2), State::Well);
        endpoint.after(Event::Absent);
        assert_eq!(endpoint.after(Event::Answered), State::Well, "somebody is there");
    }

    #[test]
    fn five_failures_in_a_row_eject_it_and_time_brings_it_back() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        assert_eq!(endpoint.fails(4), State::Well);
        endpoint.after(Event::Answered);
        assert_eq!(endpoint.fails(4), State::Well, "an answer between them");
        assert!(matches!(endpoint.fails(1), State::Ejected { .. }));
        assert!(matches!(endpoint.after(Event::Answered), State::Ejected { .. }), "the time stands");
        assert!(matches!(endpoint.later(30 * S - Duration::from_nanos(1)), State::Ejected { .. }));
        assert_eq!(endpoint.later(Duration::from_nanos(1)), State::Well);
        assert_eq!(endpoint.fails(4), State::Well, "it has five again");
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        for _ in 0..100 {
            assert_eq!(endpoint.after(Event::Failed), State::Well);
        }
        assert_eq!(endpoint.standing.failures(), 1);
    }

    #[test]
    fn each_ejection_is_longer_and_calm_makes_them_shorter_again() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        for n in 1..=12 {
            let time = endpoint.ejected_for();
            assert_eq!(time, S * (30 * n).min(300));
            endpoint.later(time);
        }
        endpoint.later(100 * S);
        let time = endpoint.ejected_for();
        assert_eq!(time, 90 * S, "twelve, less one for each ten seconds");
        endpoint.later(time + 1000 * S);
        assert_eq!(endpoint.ejected_for(), 30 * S);
    }

    #[test]
    fn who_comes_back_is_warmed() {
        let mut endpoint = Endpoint::new(20 * S);
        let time = endpoint.ejected_for();
        let back = endpoint.now + time;
        assert_eq!(endpoint.later(time), State::Warming { since: back });
        assert_eq!(endpoint.after(Event::Answered), State::Warming { since: back });
        assert_eq!(endpoint.fails(4), State::Warming { since: back });
        assert_eq!(endpoint.later(20 * S), State::Well);
    }

    #[test]
    fn long_after_its_time_it_is_warm_already() {
        let mut endpoint = Endpoint::new(20 * S);
        let time = endpoint.ejected_for();
        assert_eq!(endpoint.later(time + 20 * S), State::Well);
    }

    #[test]
    fn where_no_place_is_left_it_stays() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        assert!(endpoint.roster.eject(10, endpoint.now + 10 * S, endpoint.now), "another one is out");
        assert_eq!(endpoint.fails(50), State::Well);
        endpoint.later(10 * S);
        assert!(matches!(endpoint.fails(1), State::Ejected { .. }), "its turn");
    }

    #[test]
    fn without_ejection_it_is_only_avoided() {
        let mut endpoint = Endpoint::new(Duration::ZERO);
        endpoint.standing = Standing::new(None, Duration::ZERO);
        assert_eq!(endpoint.fails(50), State::Well);
        assert!(matches!(endpoint.after(Event::Absent), State::Avoided { .. }));
    }
}
