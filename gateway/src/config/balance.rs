//! How an upstream's endpoints are chosen, and what they are spared: `balance`, `ejection`, `breaker`, `caps`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::{duration, split::Sticky};

/// Which endpoint gets a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// By how soon each answers: of two that are drawn, the better one likely gets it.
    #[default]
    P2c,
    /// The one with the fewest requests under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The same one for the same caller, whichever gateway is asked: by `principal`, `client_address`, `header:NAME` or
    /// `cookie:NAME`. Requests without it go as by `p2c`.
    RingHash(Sticky),
}

/// `ejection: { failures: 5, time: 30s, longest: 300s, percent: 10 }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Failures in a row after which an endpoint gets nothing for a while: 1 to 1,000, default 5.
    pub failures: u32,
    /// For how long the first time, the second time twice as long, and so on; for each 10 s that it is in, one time is
    /// forgotten. Above 0, default 30 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub time: Duration,
    /// The longest time, no less than `time`; default 300 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub longest: Duration,
    /// The most endpoints of a hundred that are out at once, but always one: 1 to 100, default 10.
    pub percent: u32,
}

/// `breaker: { percent: 50, requests: 20, window: 10s, open: 10s, ramp: 10s }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// How many requests of a hundred must fail: 1 to 100, default 50.
    pub percent: u32,
    /// And how many must have been sent at least: 1 to 1,000,000, default 20.
    pub requests: u32,
    /// Both within this time: 10 ms to 1 h, default 10 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub window: Duration,
    /// How long nothing is sent then: up to 1 h, default 10 s. After that one request at a time is.
    #[serde(deserialize_with = "duration::deserialize")]
    pub open: Duration,
    /// After three of those went well, how long it takes until everything is sent: up to 1 h, default 10 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ramp: Duration,
}

/// `caps: { connections: 1024, pending: 1024, requests: 1024 }`; 1 to 1,000,000 each, default 1,024.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Open connections, all cores together.
    pub connections: u32,
    /// Requests that wait for a connection, or for a stream on one.
    pub pending: u32,
    /// Requests under way until the last byte of their answers; a retry or a hedge is one more.
    pub requests: u32,
}

impl Balance {
    pub fn to_upstream(&self) -> upstream::Balance {
        match self {
            Self::P2c => upstream::Balance::P2c,
            Self::LeastRequest => upstream::Balance::LeastRequest,
            Self::RoundRobin => upstream::Balance::RoundRobin,
            Self::RingHash(_) => upstream::Balance::RingHash,
        }
    }

    /// What a request is known by, where that decides.
    pub fn key(&self) -> Option<&Sticky> {
        match self {
            Self::RingHash(key) => Some(key),
            _ => None,
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        let upstream::Ejection { failures, time, longest, percent } = upstream::Ejection::default();
        Self { failures, time, longest, percent }
    }
}

impl Ejection {
    pub fn to_upstream(&self) -> upstream::Ejection {
        let Self { failures, time, longest, percent } = *self;
        upstream::Ejection { failures, time, longest, percent }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        let upstream::Breaker { percent, requests, window, open, ramp } = upstream::Breaker::default();
        Self { percent, requests, window, open, ramp }
    }
}

impl Breaker {
    pub fn to_upstream(&self) -> upstream::Breaker {
        let Self { percent, requests, window, open, ramp } = *self;
        upstream::Breaker { percent, requests, window, open, ramp }
    }
}

impl Default for Caps {
    fn default() -> Self {
        let upstream::Caps { connections, pending, requests } = upstream::Caps::default();
        Self { connections, pending, requests }
    }
}

impl Caps {
    pub fn to_upstream(&self) -> upstream::Caps {
        let Self { connections, pending, requests } = *self;
        upstream::Caps { connections, pending, requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Upstream;

    fn read(more: &str) -> Upstream {
        serde_saphyr::from_str(&format!("{{ endpoints: [\"a:1\"], {more} }}")).unwrap()
    }

    #[test]
    fn what_is_not_written_is_as_the_upstream_has_it() {
        let config = read("").to_upstream("web");
        let mut expected = upstream::Config::new("web", vec!["a:1".to_owned()], upstream::Protocol::Http1);
        expected.drain = config.drain;
        assert_eq!(config, expected);
    }

    #[test]
    fn each_balancer_has_a_name_and_a_ring_goes_by_something() {
        let balance = |text: &str| read(&format!("balance: {text}")).to_upstream("web").balance;
        assert_eq!(balance("p2c"), upstream::Balance::P2c);
        assert_eq!(balance("least_request"), upstream::Balance::LeastRequest);
        assert_eq!(balance("round_robin"), upstream::Balance::RoundRobin);
        let ring = read("balance: { ring_hash: \"cookie:user\" }");
        assert_eq!(ring.to_upstream("web").balance, upstream::Balance::RingHash);
        assert_eq!(ring.balance.key(), Some(&Sticky::Cookie("user".to_owned())));
    }

    #[test]
    fn ejection_and_breaker_can_be_off_and_in_part_as_usual() {
        let off = read("ejection: false, breaker: false").to_upstream("web");
        assert!(off.ejection.is_none() && off.breaker.is_none());
        let some = read("ejection: { time: 1s }, breaker: { percent: 80 }, slow_start: 30s, caps: { requests: 7 }");
        let some = some.to_upstream("web");
        let second = Duration::from_secs(1);
        assert_eq!(some.ejection, Some(upstream::Ejection { time: second, ..Default::default() }));
        assert_eq!(some.breaker, Some(upstream::Breaker { percent: 80, ..Default::default() }));
        assert_eq!((some.slow_start, some.caps.requests, some.caps.pending), (30 * second, 7, 1024));
    }
}
