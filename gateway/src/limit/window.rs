//! A sliding window that keeps its promise: in no span of the period, wherever it begins, are there more requests than
//! allowed.
//!
//! The period is divided into 64 parts. A key has a ring of 65 counters, because a span of the period touches up to 65
//! parts; the oldest is counted whole though only some of it may lie within. The error is on the strict side and at most
//! one part, 1/64 of the period.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::Decision;
use crate::recent::Recent;

const PARTS: u64 = 64;
const RING: u64 = PARTS + 1;

pub struct Window {
    quota: u32,
    /// Nanoseconds of a part, rounded up: the parts cover the period.
    part: u64,
    epoch: Instant,
    rings: Recent<u128, Ring>,
}

/// One key's counters; that of part `p` is at `p % 65`.
struct Ring {
    counts: Box<[u32; RING as usize]>,
    total: u32,
    /// The latest part seen.
    head: u64,
}

impl Window {
    pub fn new(quota: NonZeroU32, period: Duration, keys: usize) -> Self {
        let part = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).div_ceil(PARTS).max(1);
        Self { quota: quota.get(), part, epoch: Instant::now(), rings: Recent::new(keys) }
    }

    pub fn check(&self, cost: u32, key: u128, now: Instant) -> Decision {
        self.check_within(self.quota, cost, key, now)
    }

    /// The same with another quota, for this once.
    pub fn check_within(&self, quota: u32, cost: u32, key: u128, now: Instant) -> Decision {
        let elapsed = self.elapsed(now);
        self.rings.with(key, Ring::default, |ring| {
            ring.advance(elapsed / self.part);
            let allowed = ring.total.saturating_add(cost) <= quota;
            if allowed {
                ring.count(cost);
            }
            let leaving = if allowed { ring.oldest() } else { ring.leaving(quota, cost) };
            let leaves = leaving.saturating_add(RING).saturating_mul(self.part);
            Decision {
                allowed,
                remaining: quota.saturating_sub(ring.total),
                wait: Duration::from_nanos(leaves.saturating_sub(elapsed)),
            }
        })
    }

    /// Counts a request that was allowed elsewhere.
    pub fn note(&self, cost: u32, key: u128, now: Instant) {
        let part = self.elapsed(now) / self.part;
        self.rings.with(key, Ring::default, |ring| {
            ring.advance(part);
            ring.count(cost);
        });
    }

    /// Takes back what `check` counted at `now`.
    pub fn give_back(&self, cost: u32, key: u128, now: Instant) {
        let part = self.elapsed(now) / self.part;
        self.rings.get(&key, |ring| ring.give_back(cost, part));
    }

    /// How many are left to a key, None if nothing is known of it.
    pub fn remaining(&self, key: u128, now: Instant) -> Option<u32> {
        let part = self.elapsed(now) / self.part;
        let total = self.rings.get(&key, |ring| {
            ring.advance(part);
            ring.total
        })?;
        Some(self.quota.saturating_sub(total))
    }

    pub fn forget(&self, key: u128) {
        self.rings.remove(&key);
    }

    fn elapsed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn keys(&self) -> usize {
        self.rings.len()
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self { counts: Box::new([0; RING as usize]), total: 0, head: 0 }
    }
}

impl Ring {
    /// Forgets what lies further back than the ring reaches. A core whose clock reading is a little older than another's
    /// counts into the later part: again the strict side.
    fn advance(&mut self, part: u64) {
        let steps = part.saturating_sub(self.head).min(RING);
        for step in 1..=steps {
            let slot = &mut self.counts[((self.head + step) % RING) as usize];
            self.total -= *slot;
            *slot = 0;
        }
        if steps == RING {
            self.total = 0;
            self.counts.fill(0);
        }
        self.head = self.head.max(part);
    }

    fn count(&mut self, cost: u32) {
        let cost = cost.min(u32::MAX - self.total);
        self.counts[(self.head % RING) as usize] += cost;
        self.total += cost;
    }

    /// From the part it was counted in, or, if that was a later one, from what is older: never from what came after.
    fn give_back(&mut self, cost: u32, part: u64) {
        let slot = &mut self.counts[(part % RING) as usize];
        if self.head.saturating_sub(part) < RING {
            let given = cost.min(*slot);
            *slot -= given;
            self.total -= given;
        }
    }

    /// The oldest part that still counts.
    fn oldest(&self) -> u64 {
        self.parts().find(|part| self.counts[(part % RING) as usize] > 0).unwrap_or(self.head)
    }

    /// The part with which enough will have left for so much.
    fn leaving(&self, quota: u32, cost: u32) -> u64 {
        let mut left = self.total;
        let enough = |part: &u64| {
            left -= self.counts[(part % RING) as usize];
            left.saturating_add(cost) <= quota
        };
        self.parts().find(enough).unwrap_or(self.head)
    }

    fn parts(&self) -> impl Iterator<Item = u64> + use<> {
        self.head.saturating_sub(PARTS)..=self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn window(quota: u32) -> Window {
        Window::new(NonZeroU32::new(quota).unwrap(), MINUTE, 100)
    }

    #[test]
    fn the_101st_waits_until_the_first_has_left_the_window() {
        let window = window(100);
        let start = window.epoch + Duration::from_millis(100);
        for sent in 1..=100 {
            let decision = window.check(1, 1, start);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, 100 - sent);
        }
        let refused = window.check(1, 1, start);
        assert!(!refused.allowed);
        assert!(refused.wait >= MINUTE - Duration::from_millis(100), "{:?}", refused.wait);
        assert!(refused.wait <= MINUTE + MINUTE / 64, "{:?}", refused.wait);
        // What was refused was not counted, so that asking does not put the end off.
        assert!(!window.check(1, 1, start + refused.wait - Duration::from_millis(1)).allowed);
        assert!(window.check(1, 1, start + refused.wait).allowed);
    }

    #[test]
    fn a_share_counts_what_was_allowed_elsewhere() {
        let window = window(100);
        (0..40).for_each(|_| window.note(1, 1, window.epoch));
        let allowed = (0..100).filter(|_| window.check_within(50, 1, 1, window.epoch).allowed).count();
        assert_eq!(allowed, 10);
        (0..20).for_each(|_| window.note(1, 1, window.epoch));
        let decision = window.check_within(50, 1, 1, window.epoch);
        assert!(!decision.allowed && decision.remaining == 0, "more than the share was allowed elsewhere");
    }

    #[test]
    fn what_costs_more_counts_more_and_waits_until_enough_has_left() {
        let window = window(10);
        let (first, later) = (window.epoch, window.epoch + MINUTE / 2);
        assert_eq!(window.check(4, 1, first).remaining, 6);
        assert_eq!(window.check(4, 1, later).remaining, 2);
        assert!(window.check(2, 1, later).allowed);
        let refused = window.check(1, 1, later);
        assert!(!refused.allowed && refused.wait < MINUTE * 2 / 3, "{:?}", refused.wait);
        let refused = window.check(5, 1, later);
        assert!(!refused.allowed && refused.wait >= MINUTE, "the four of the beginning are not enough: {refused:?}");
        assert!(window.check(5, 1, later + refused.wait).allowed);
        assert_eq!((window.remaining(1, later + 4 * MINUTE), window.remaining(2, later)), (Some(10), None));
        window.forget(1);
        assert_eq!(window.remaining(1, later), None);
    }

    #[test]
    fn keys_do_not_share() {
        let window = window(1);
        assert!(window.check(1, 1, window.epoch).allowed);
        assert!(window.check(1, 2, window.epoch).allowed);
        assert!(!window.check(1, 1, window.epoch).allowed);
    }

    #[test]
    fn what_is_given_back_can_be_used() {
        let window = window(1);
        assert!(window.check(1, 1, window.epoch).allowed);
        window.give_back(1, 1, window.epoch);
        assert!(window.check(1, 1, window.epoch).allowed);
        assert!(!window.check(1, 1, window.epoch).allowed);
    }

    #[test]
    fn what_is_given_back_is_not_taken_from_a_later_request() {
        let window = window(2);
        let (first, second) = (window.epoch, window.epoch + MINUTE / 2);
        assert!(window.check(1, 1, first).allowed);
        assert!(window.check(1, 1, second).allowed);
        window.give_back(1, 1, first);
        assert!(window.check(1, 1, second).allowed, "one was given back");
        // The minute that began with the first is over; the two of its middle still count.
        assert!(!window.check(1, 1, first + MINUTE + MINUTE / 8).allowed);
    }

    proptest::proptest! {
        #[test]
        fn no_span_of_the_period_ever_holds_more_than_the_quota(
            quota in 1_u32..20,
            gaps in proptest::collection::vec(proptest::prop_oneof![0_u64..50, 0_u64..4_000, 0_u64..90_000], 1..300),
        ) {
            let window = window(quota);
            // The exact log: every admitted moment, in milliseconds.
            let (mut log, mut now) = (Vec::<u64>::new(), 0);
            for gap in gaps {
                now += gap;
                let allowed = window.check(1, 7, window.epoch + Duration::from_millis(now)).allowed;
                let within = |span: u64| log.iter().filter(|at| **at + span > now).count();
                if allowed {
                    proptest::prop_assert!(within(60_000) < quota as usize, "one too many at {}", now);
                    log.push(now);
                } else {
                    proptest::prop_assert!(within(60_000 + 60_000 / 64 + 1) >= quota as usize, "too strict at {}", now);
                }
            }
        }
    }
}
