//! `bridge: { redis: redis://cache:6379, channels: [{ pattern: "orders.*", queue: ORDERS, event: CHANGED }] }`

use std::time::Duration;

use events::Name;
use redial::{Patience, Redis, Settings};
use serde::Deserialize;

use crate::access::Caller;

/// The most patterns.
const MOST: usize = 64;
const LONGEST: usize = 256;
/// How long a connection and an answer are waited for.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), answer: Duration::from_secs(5), attempts: 5 };

/// Channels of a Redis whose messages become events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the channels are: it needn't be the bus's.
    pub redis: Settings,
    pub channels: Vec<Rule>,
}

/// What is published there becomes that event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A channel, or a pattern as `PSUBSCRIBE` has it; 1 to 256 bytes.
    pub pattern: String,
    pub queue: Name,
    pub event: Name,
}

/// A bridge that was checked.
#[derive(Clone)]
pub struct Bridge {
    pub(super) redis: Redis,
    pub(super) rules: Vec<Rule>,
}

impl Config {
    /// What contradicts itself, by its place.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if let Err(fault) = self.redis.address() {
            faults.push(("redis".to_owned(), fault.to_string()));
        }
        if !(1..=MOST).contains(&self.channels.len()) {
            faults.push(("channels".to_owned(), format!("must be 1 to {MOST}")));
        }
        for (at, rule) in self.channels.iter().enumerate() {
            let place = |field: &str| format!("channels[{at}].{field}");
            if rule.pattern.is_empty() || rule.pattern.len() > LONGEST {
                faults.push((place("pattern"), format!("must be 1 to {LONGEST} bytes")));
            }
            if self.channels[..at].iter().any(|other| other.pattern == rule.pattern) {
                faults.push((place("pattern"), "stands there twice".to_owned()));
            }
            if let Some(whose) = Caller::whose_alone(&rule.queue) {
                faults.push((place("queue"), format!("the queue {} is {whose}", rule.queue)));
            }
        }
        faults
    }

    /// # Errors
    /// The first of the faults.
    pub fn bridge(self) -> anyhow::Result<Bridge> {
        if let Some((place, fault)) = self.faults().into_iter().next() {
            anyhow::bail!("bridge.{place}: {fault}");
        }
        Ok(Bridge { redis: Redis::new(self.redis.address()?, PATIENCE), rules: self.channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(yaml: &str) -> Vec<String> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        config.faults().into_iter().map(|(place, _)| place).collect()
    }

    #[test]
    fn what_contradicts_itself_is_named_by_its_place() {
        let good = "{redis: 'redis://localhost', channels: [{pattern: 'orders.*', queue: ORDERS, event: CHANGED}]}";
        assert!(faults(good).is_empty());
        assert_eq!(faults("{redis: 'http://localhost', channels: []}"), ["redis", "channels"]);
        let twice = "{redis: 'redis://localhost', channels: [{pattern: a, queue: A, event: B}, {pattern: a, queue: SYS, event: B}, {pattern: '', queue: JOBS, event: B}]}";
        let places = ["channels[1].pattern", "channels[1].queue", "channels[2].pattern", "channels[2].queue"];
        assert_eq!(faults(twice), places);
        assert!(
            serde_saphyr::from_str::<Config>(
                "{redis: 'redis://localhost', channels: [{pattern: a, queue: a, event: B}]}"
            )
            .is_err()
        );
    }
}
