//! `limits.patience:` how long a client may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ConfigError, Size};
use crate::action::duration;

/// How long a client may take, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Patience {
    /// For a request's head, from its first byte (the first on a connection: from the connection's beginning); 1s to 5m;
    /// 10 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub head: Duration,
    /// For a whole request, body included, where it is waited for; at least `head`, up to 1h; 60 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request: Duration,
    /// Between two requests; 1s to 1h; 180 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub idle: Duration,
    /// Bytes a second that a client who is waited for must send of a body, or take of an answer (streams of events are
    /// exempt); 0: as slow as it likes; up to 1MiB; 1 KiB.
    pub rate: Size,
    /// Over how long the rate is measured; 1s to 60s; 10 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub over: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(180),
            rate: Size::kib(1),
            over: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// What is out of bounds, with its path below the section.
    pub fn faults(&self) -> Vec<ConfigError> {
        const HOUR: u64 = 3600;
        let mut faults = Vec::new();
        let mut within = |name, value: Duration, least: u64, most: u64| {
            if value < Duration::from_secs(least) || value > Duration::from_secs(most) {
                faults.push(ConfigError::new(name, format!("must be within {least} s and {most} s")));
            }
        };
        within("head", self.head, 1, 300);
        within("request", self.request, self.head.as_secs().clamp(1, 300), HOUR);
        within("idle", self.idle, 1, HOUR);
        within("over", self.over, 1, 60);
        if self.rate > Size::mib(1) {
            faults.push(ConfigError::new("rate", "must be at most 1 MiB"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds_and_what_is_not_is_named() {
        assert_eq!(Patience::default().faults(), []);
        let own = Patience {
            head: Duration::ZERO,
            idle: Duration::from_secs(7200),
            rate: Size::mib(2),
            ..Patience::default()
        };
        let paths: Vec<_> = own.faults().into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["head", "idle", "rate"]);
        let own = Patience { request: Duration::from_secs(5), ..Patience::default() };
        assert_eq!(own.faults()[0].path, "request", "a head alone may take longer");
    }
}
