//! A rate with bursts: the generic cell rate algorithm, by governor, on a bounded store.

use std::{num::NonZeroU32, sync::Arc};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference as _},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::StateStore,
};

use super::Decision;
use crate::recent::Recent;

pub struct Gcra<C: Clock = MonotonicClock> {
    limiter: RateLimiter<u128, Store, C, StateInformationMiddleware>,
    /// The same, and changes nothing.
    looking: RateLimiter<u128, Looking, C, StateInformationMiddleware>,
    store: Store,
    quota: Quota,
}

/// When each key's requests would all have been spread out evenly.
#[derive(Clone)]
struct Store(Arc<Recent<u128, Option<Nanos>>>);

/// A store that is read only.
struct Looking(Store);

impl Gcra {
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32, keys: usize) -> Self {
        Self::with_clock(per_second, burst, keys, MonotonicClock)
    }
}

impl<C: Clock + Clone> Gcra<C> {
    fn with_clock(per_second: NonZeroU32, burst: NonZeroU32, keys: usize, clock: C) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let store = Store(Arc::new(Recent::new(keys)));
        // Each counts from its own beginning: a moment apart, which is nothing to a rate.
        let looking = RateLimiter::new(quota, Looking(store.clone()), clock.clone());
        Self { limiter: RateLimiter::new(quota, store.clone(), clock), looking, store, quota }
    }

    pub fn check(&self, cost: NonZeroU32, key: u128) -> Decision {
        self.check_weighing(NonZeroU32::MIN, cost, key)
    }

    /// The same where a request weighs as much as `weight` of them: rate and burst are divided by it. Heavier than the
    /// burst is as heavy as the burst.
    pub fn check_weighing(&self, weight: NonZeroU32, cost: NonZeroU32, key: u128) -> Decision {
        let cells = weight.saturating_mul(cost).min(self.quota.burst_size());
        match self.limiter.check_key_n(&key, cells) {
            Ok(Ok(snapshot)) => Decision {
                allowed: true,
                remaining: snapshot.remaining_burst_capacity() / weight,
                wait: self.quota.replenish_interval() * weight.get(),
            },
            Ok(Err(refused)) => Decision {
                allowed: false,
                remaining: self.remaining(key).unwrap_or(0) / weight,
                wait: refused.earliest_possible().duration_since(self.limiter.clock().now()).into(),
            },
            Err(_) => Decision { allowed: false, remaining: 0, wait: self.quota.burst_size_replenished_in() },
        }
    }

    /// How many are left to a key, None if nothing is known of it.
    pub fn remaining(&self, key: u128) -> Option<u32> {
        self.store.0.get(&key, |_| ())?;
        // One more is asked for, and is not taken.
        Some(self.looking.check_key(&key).map_or(0, |snapshot| snapshot.remaining_burst_capacity() + 1))
    }

    pub fn forget(&self, key: u128) {
        self.store.0.remove(&key);
    }

    pub fn keys(&self) -> usize {
        self.store.0.len()
    }
}

impl StateStore for Store {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.with(
            *key,
            || None,
            |state| {
                let (outcome, next) = measure(*state)?;
                *state = Some(next);
                Ok(outcome)
            },
        )
    }
}

impl StateStore for Looking {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.0.get(key, |state| *state).flatten();
        measure(state).map(|(outcome, _)| outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn what_costs_more_counts_more_and_looking_counts_nothing() {
        let clock = FakeRelativeClock::default();
        let gcra = Gcra::with_clock(NonZeroU32::new(10).unwrap(), NonZeroU32::new(20).unwrap(), 100, clock.clone());
        let five = NonZeroU32::new(5).unwrap();
        assert_eq!(gcra.remaining(1), None);
        assert_eq!(gcra.check(five, 1).remaining, 15);
        assert_eq!((gcra.remaining(1), gcra.remaining(1)), (Some(15), Some(15)));
        assert!(gcra.check(five, 1).allowed && gcra.check(five, 1).allowed && gcra.check(ONE, 1).allowed);
        let refused = gcra.check(five, 1);
        assert_eq!((refused.allowed, refused.remaining, refused.wait), (false, 4, Duration::from_millis(100)));
        clock.advance(refused.wait);
        assert!(gcra.check(five, 1).allowed);
        gcra.forget(1);
        assert_eq!(gcra.remaining(1), None);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let gcra = Gcra::with_clock(NonZeroU32::new(10).unwrap(), NonZeroU32::new(20).unwrap(), 100, clock.clone());
        for sent in 1..=20 {
            let decision = gcra.check(ONE, 1);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, 20 - sent);
        }
        let refused = gcra.check(ONE, 1);
        assert!(!refused.allowed);
        assert_eq!(refused.wait, Duration::from_millis(100));
        assert!(gcra.check(ONE, 2).allowed, "another key");
        clock.advance(Duration::from_millis(100));
        assert!(gcra.check(ONE, 1).allowed);
        assert!(!gcra.check(ONE, 1).allowed);
        assert_eq!(gcra.keys(), 2);
    }

    #[test]
    fn half_the_rate_is_had_by_weighing_twice_as_much() {
        let clock = FakeRelativeClock::default();
        let gcra = Gcra::with_clock(NonZeroU32::new(10).unwrap(), NonZeroU32::new(20).unwrap(), 100, clock.clone());
        let two = NonZeroU32::new(2).unwrap();
        assert_eq!((0..30).filter(|_| gcra.check_weighing(two, ONE, 1).allowed).count(), 10);
        clock.advance(Duration::from_millis(200));
        assert!(gcra.check_weighing(two, ONE, 1).allowed);
        assert!(!gcra.check_weighing(two, ONE, 1).allowed);
        assert!(gcra.check_weighing(NonZeroU32::new(99).unwrap(), ONE, 2).allowed, "never nothing at all");
    }
}
