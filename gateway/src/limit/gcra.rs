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
    store: Store,
    quota: Quota,
}

/// When each key's requests would all have been spread out evenly.
#[derive(Clone)]
struct Store(Arc<Recent<u128, Option<Nanos>>>);

impl Gcra {
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32, keys: usize) -> Self {
        Self::with_clock(per_second, burst, keys, MonotonicClock)
    }
}

impl<C: Clock> Gcra<C> {
    fn with_clock(per_second: NonZeroU32, burst: NonZeroU32, keys: usize, clock: C) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let store = Store(Arc::new(Recent::new(keys)));
        Self { limiter: RateLimiter::new(quota, store.clone(), clock), store, quota }
    }

    pub fn check(&self, key: u128) -> Decision {
        match self.limiter.check_key(&key) {
            Ok(snapshot) => Decision {
                allowed: true,
                remaining: snapshot.remaining_burst_capacity(),
                wait: self.quota.replenish_interval(),
            },
            Err(refused) => Decision {
                allowed: false,
                remaining: 0,
                wait: refused.earliest_possible().duration_since(self.limiter.clock().now()).into(),
            },
        }
    }

    /// The same where a request weighs as much as `weight` of them: rate and burst are divided by it. Heavier than the
    /// burst is as heavy as the burst.
    pub fn check_weighing(&self, weight: NonZeroU32, key: u128) -> Decision {
        let weight = weight.min(self.quota.burst_size());
        match self.limiter.check_key_n(&key, weight) {
            Ok(Ok(snapshot)) => Decision {
                allowed: true,
                remaining: snapshot.remaining_burst_capacity() / weight,
                wait: self.quota.replenish_interval() * weight.get(),
            },
            Ok(Err(refused)) => Decision {
                allowed: false,
                remaining: 0,
                wait: refused.earliest_possible().duration_since(self.limiter.clock().now()).into(),
            },
            Err(_) => Decision { allowed: false, remaining: 0, wait: self.quota.burst_size_replenished_in() },
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let gcra = Gcra::with_clock(NonZeroU32::new(10).unwrap(), NonZeroU32::new(20).unwrap(), 100, clock.clone());
        for sent in 1..=20 {
            let decision = gcra.check(1);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, 20 - sent);
        }
        let refused = gcra.check(1);
        assert!(!refused.allowed);
        assert_eq!(refused.wait, Duration::from_millis(100));
        assert!(gcra.check(2).allowed, "another key");
        clock.advance(Duration::from_millis(100));
        assert!(gcra.check(1).allowed);
        assert!(!gcra.check(1).allowed);
        assert_eq!(gcra.keys(), 2);
    }

    #[test]
    fn half_the_rate_is_had_by_weighing_twice_as_much() {
        let clock = FakeRelativeClock::default();
        let gcra = Gcra::with_clock(NonZeroU32::new(10).unwrap(), NonZeroU32::new(20).unwrap(), 100, clock.clone());
        let two = NonZeroU32::new(2).unwrap();
        assert_eq!((0..30).filter(|_| gcra.check_weighing(two, 1).allowed).count(), 10);
        clock.advance(Duration::from_millis(200));
        assert!(gcra.check_weighing(two, 1).allowed);
        assert!(!gcra.check_weighing(two, 1).allowed);
        assert!(gcra.check_weighing(NonZeroU32::new(99).unwrap(), 2).allowed, "never nothing at all");
    }
}
