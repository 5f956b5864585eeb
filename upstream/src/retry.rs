//! When a request may be sent again: how often in all ([`Budget`]), after how long ([`backoff`]), and with what
//! ([`repeat`]).

use std::time::{Duration, Instant};

use http::Request;
use parking_lot::Mutex;
use rand::Rng;

use crate::Body;

/// Retries a request earns for others.
const SHARE: f64 = 0.2;
/// Retries that are there even if nothing was earned.
const FLOOR: f64 = 3.0;
/// The time in which what was earned falls to 1/e.
const MEMORY: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Lets retries be a fifth of the requests of the last ten seconds, and three, so that a service in trouble isn't sent
/// a multiple of what troubles it. Measured over time, not over what is under way now: when one of two endpoints dies,
/// half of what is under way may have to be repeated at once.
pub(crate) struct Budget(Mutex<State>);

struct State {
    tokens: f64,
    at: Instant,
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { tokens: FLOOR, at: now }))
    }

    /// A request was sent.
    pub fn deposit(&self, now: Instant) {
        let mut state = self.0.lock();
        state.settle(now);
        state.tokens += SHARE;
    }

    /// Whether a retry may be sent.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        state.settle(now);
        let is_covered = state.tokens >= 1.0;
        if is_covered {
            state.tokens -= 1.0;
        }
        is_covered
    }
}

impl State {
    fn settle(&mut self, now: Instant) {
        let weight = (-now.saturating_duration_since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.tokens = FLOOR + (self.tokens - FLOOR) * weight;
        self.at = now;
    }
}

/// How long to wait before retry number `retry` (from 1): anything up to 25 ms, doubled each time, never above 250 ms.
pub(crate) fn backoff(retry: u32, random: &mut impl Rng) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << (retry - 1).min(8)).min(LONGEST_WAIT);
    longest.mul_f64(random.random())
}

/// The same request once more, where its body can be had again. Extensions stay with the first.
pub(crate) fn repeat(request: &Request<Body>) -> Option<Request<Body>> {
    let mut repeated = Request::new(request.body().repeat()?);
    request.method().clone_into(repeated.method_mut());
    request.uri().clone_into(repeated.uri_mut());
    request.headers().clone_into(repeated.headers_mut());
    Some(repeated)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    fn withdrawn(budget: &Budget, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn three_retries_are_always_there() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(withdrawn(&budget, start), 3);
        assert_eq!(withdrawn(&budget, start + MEMORY * 8), 2, "they come back, but for a rest that never quite fades");
    }

    #[test]
    fn a_fifth_of_recent_requests_may_be_repeated() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..100 {
            budget.deposit(start);
        }
        assert_eq!(withdrawn(&budget, start), 22);
    }

    #[test]
    fn what_was_earned_long_ago_is_forgotten() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..1000 {
            budget.deposit(start);
        }
        assert_eq!(withdrawn(&budget, start + MEMORY * 10), 3);
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_a_second() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut longest = |retry| (0..500).map(|_| backoff(retry, &mut random)).max().unwrap();
        assert!((20..=25).contains(&longest(1).as_millis()));
        assert!((40..=50).contains(&longest(2).as_millis()));
        assert!((80..=100).contains(&longest(3).as_millis()));
        assert!((200..=250).contains(&longest(40).as_millis()));
    }

    #[test]
    fn only_a_body_in_memory_is_repeated() {
        let small = Request::new(Body::from("hello"));
        assert!(repeat(&small).is_some());
        let large = Request::new(Body::from("x".repeat(64 * 1024 + 1)));
        assert!(repeat(&large).is_none());
        let stream = Request::new(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"x"))));
        assert!(repeat(&stream).is_none());
    }
}
