//! Who comes near a limit and who goes beyond it: the few keys that do so most, for operators, and a line in the log now
//! and then. Nothing is noted of a request that is far from its limit.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Decision, Values};
use crate::metrics::METRICS;

/// Keys that are named.
const NAMED: usize = 16;
/// How often a limit may write a line.
const QUIET: Duration = Duration::from_secs(10);
/// A key comes near with so many tenths of its quota. Where the quota is smaller than five, that says nothing.
const NEAR: u64 = 8;
const SMALLEST: u32 = 5;

#[derive(Default)]
pub struct Pressure {
    refused: AtomicU64,
    near: AtomicU64,
    /// The most pressing keys. Where there is no room, a new one takes the place of the least pressing, with its count (the
    /// space-saving algorithm): who is pressing most is always among them.
    keys: Mutex<Vec<Pressing>>,
    told: Mutex<Option<Instant>>,
}

struct Pressing {
    key: u128,
    label: String,
    times: u64,
    refused: u64,
    last: Instant,
}

/// A key that presses, as operators read it.
#[derive(Debug, serde::Serialize)]
pub struct Hot {
    pub key: String,
    /// How often it came near its limit, or beyond it; at most so often.
    pub times: u64,
    /// How often it was refused since it is named here.
    pub refused: u64,
    pub last_seen_ms_ago: u64,
}

impl Pressure {
    /// Takes note of what a limit of this quota said.
    pub fn note(&self, limit: &str, quota: u32, cost: u32, decision: &Decision, values: &Values<'_>) {
        if !decision.allowed {
            self.refused.fetch_add(1, Relaxed);
            self.press(values, true);
        } else if quota >= SMALLEST && comes_near(quota, decision.remaining, cost) {
            self.near.fetch_add(1, Relaxed);
            METRICS.rate_limit_near(limit);
            self.press(values, false);
            self.tell(limit, quota, values);
        }
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    pub fn near(&self) -> u64 {
        self.near.load(Relaxed)
    }

    /// The most pressing first.
    pub fn hottest(&self, now: Instant) -> Vec<Hot> {
        let mut hottest: Vec<_> = self.keys.lock().iter().map(|pressing| pressing.show(now)).collect();
        hottest.sort_by_key(|hot| std::cmp::Reverse(hot.times));
        hottest
    }

    pub fn forget(&self, key: u128) {
        self.keys.lock().retain(|pressing| pressing.key != key);
    }

    fn press(&self, values: &Values<'_>, refused: bool) {
        // Where cores meet, one of them lets it be: a flood of refusals must not wait for its own book-keeping.
        let Some(mut keys) = self.keys.try_lock() else { return };
        let (key, now) = (values.hash(), Instant::now());
        if let Some(known) = keys.iter_mut().find(|pressing| pressing.key == key) {
            known.times += 1;
            known.refused += u64::from(refused);
            known.last = now;
            return;
        }
        let mut times = 1;
        if keys.len() >= NAMED
            && let Some(least) = (0..keys.len()).min_by_key(|at| keys[*at].times)
        {
            times += keys.swap_remove(least).times;
        }
        keys.push(Pressing { key, label: values.label(), times, refused: u64::from(refused), last: now });
    }

    fn tell(&self, limit: &str, quota: u32, values: &Values<'_>) {
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.is_none_or(|told| now.duration_since(told) >= QUIET) {
            *told = Some(now);
            drop(told);
            tracing::warn!(limit, quota, key = values.label(), "a key has used four fifths of its rate limit");
        }
    }
}

impl Pressing {
    fn show(&self, now: Instant) -> Hot {
        let ago = now.saturating_duration_since(self.last).as_millis();
        Hot {
            key: self.label.clone(),
            times: self.times,
            refused: self.refused,
            last_seen_ms_ago: u64::try_from(ago).unwrap_or(u64::MAX),
        }
    }
}

/// Whether it was this request that went past four fifths.
fn comes_near(quota: u32, remaining: u32, cost: u32) -> bool {
    let used = u64::from(quota.saturating_sub(remaining)) * 10;
    let line = u64::from(quota) * NEAR;
    used >= line && used.saturating_sub(u64::from(cost) * 10) < line
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::{context::RequestContext, limit::Key};

    fn press(pressure: &Pressure, tenant: &str, allowed: bool, remaining: u32) {
        let key: Key = serde_saphyr::from_str("header:x-tenant").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-tenant", tenant.parse().unwrap());
        let context =
            RequestContext::new("1".into(), telemetry::TraceContext::unsampled(), "10.0.0.1:1".parse().unwrap());
        let values = key.of(&headers, &context).unwrap();
        let decision = Decision { allowed, remaining, wait: Duration::ZERO };
        pressure.note("a", 10, 1, &decision, &values);
    }

    #[test]
    fn only_the_request_that_goes_past_four_fifths_is_noted() {
        let crossing: Vec<u32> = (0..10).filter(|remaining| comes_near(10, *remaining, 1)).collect();
        assert_eq!(crossing, [2]);
        assert!(comes_near(10, 0, 10) && !comes_near(10, 4, 6) && comes_near(7, 1, 1) && !comes_near(7, 2, 1));
    }

    #[test]
    fn who_presses_most_is_named_among_many() {
        let pressure = Pressure::default();
        for round in 0..50 {
            press(&pressure, "greedy", false, 0);
            press(&pressure, &format!("once-{round}"), true, 2);
            press(&pressure, "modest", true, 9);
        }
        let hottest = pressure.hottest(Instant::now());
        assert_eq!(hottest.len(), NAMED);
        assert_eq!(hottest[0].refused, 50, "{hottest:?}");
        assert_eq!((pressure.refused(), pressure.near()), (50, 50));
        assert!(hottest.iter().all(|hot| hot.key.starts_with("sha256:")), "a header's value may be a secret");
    }
}
