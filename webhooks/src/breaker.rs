//! Sparing an endpoint that fails: after five failures in a row nothing is sent to it for a while, then one request, and only
//! if that succeeds the rest. Each process has its own. A state machine without I/O: the time comes in.

use std::time::Duration;

use time::OffsetDateTime;

const FAILURES: u32 = 5;
/// How long it rests, doubled with each try that fails.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    rest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open {
        until: OffsetDateTime,
    },
    HalfOpen,
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Go,
    /// One alone: what becomes of it decides.
    Probe,
    /// Not before so long.
    Rest(Duration),
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, rest: REST.0 }
    }
}

impl Breaker {
    pub fn admission(&mut self, now: OffsetDateTime) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::HalfOpen => Admission::Probe,
            State::Open { until } if until <= now => {
                self.state = State::HalfOpen;
                Admission::Probe
            }
            State::Open { until } => Admission::Rest(Duration::try_from(until - now).unwrap_or_default()),
        }
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether it rests now.
    pub fn failed(&mut self, now: OffsetDateTime) -> bool {
        match self.state {
            State::Closed { failures } => self.failed_closed(failures + 1, now),
            State::HalfOpen => self.failed_half_open(now),
            // Sent before it opened.
            State::Open { .. } => {}
        }
        matches!(self.state, State::Open { .. })
    }

    fn failed_closed(&mut self, failures: u32, now: OffsetDateTime) {
        self.state = State::Closed { failures };
        if failures >= FAILURES {
            self.state = State::Open { until: now + self.rest };
        }
    }

    fn failed_half_open(&mut self, now: OffsetDateTime) {
        self.rest = (self.rest * 2).min(REST.1);
        self.state = State::Open { until: now + self.rest };
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        assert_eq!([0; 5].map(|_| breaker.failed(NOW)), [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!breaker.failed(NOW));
        }
        breaker.succeeded();
        assert!(!breaker.failed(NOW));
        assert_eq!(breaker.admission(NOW), Admission::Go);
        assert_eq!(open().admission(NOW), Admission::Rest(REST.0));
    }

    #[test]
    fn one_request_decides_whether_the_rest_may_go() {
        let mut breaker = open();
        assert_eq!(breaker.admission(NOW + REST.0), Admission::Probe);
        breaker.succeeded();
        assert_eq!(breaker.admission(NOW + REST.0), Admission::Go);
    }

    #[test]
    fn it_rests_longer_each_time_up_to_ten_minutes() {
        let (mut breaker, mut now) = (open(), NOW);
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            let expected = Duration::from_secs(expected);
            assert_eq!(breaker.admission(now), Admission::Rest(expected));
            now += expected;
            assert_eq!(breaker.admission(now), Admission::Probe);
            assert!(breaker.failed(now));
        }
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let mut breaker = open();
        assert!(breaker.failed(NOW + Duration::from_secs(10)));
        assert_eq!(breaker.admission(NOW), Admission::Rest(REST.0));
    }
}
