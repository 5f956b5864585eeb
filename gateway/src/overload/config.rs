//! `overload: { memory: 512MiB }`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::gauges::Limit;
use crate::{action::duration, config::Size};

/// When the gateway protects itself. Shares are of `memory`, above 0 and at most 1, none below the one before it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Overload")]
pub struct Config {
    /// How much memory the process may use: a size, `auto` (the limit of its cgroup; without one memory is not watched) or
    /// `off`. Default `auto`.
    #[serde(deserialize_with = "limit")]
    #[schemars(with = "String")]
    pub memory: Limit,
    /// Requests have half of their time; default 0.85.
    pub shorten_timeouts: f64,
    /// Connections are closed when what is under way on them is answered; default 0.92.
    pub close_connections: f64,
    /// Requests are refused; default 0.95.
    pub shed: f64,
    /// Connections are not taken; default 0.98.
    pub stop_accepting: f64,
    /// The longest that a core may come late to what it has to do, in nine of ten cases over 5 s, before it refuses
    /// requests: 10ms and above, or `off`. Default 250ms.
    #[serde(deserialize_with = "delay")]
    #[schemars(with = "String")]
    pub delay: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: Limit::Auto,
            shorten_timeouts: 0.85,
            close_connections: 0.92,
            shed: 0.95,
            stop_accepting: 0.98,
            delay: Some(Duration::from_millis(250)),
        }
    }
}

impl Config {
    pub fn levels(&self) -> [f64; 4] {
        [self.shorten_timeouts, self.close_connections, self.shed, self.stop_accepting]
    }

    /// What contradicts itself, and where.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let names = ["shorten_timeouts", "close_connections", "shed", "stop_accepting"];
        let mut faults = Vec::new();
        let mut before = 0.0;
        for (name, share) in names.into_iter().zip(self.levels()) {
            if !(share > 0.0 && share <= 1.0) {
                faults.push((name, "must be above 0 and at most 1"));
            } else if share < before {
                faults.push((name, "must not be below the share before it"));
            }
            before = share;
        }
        if self.delay.is_some_and(|delay| delay < Duration::from_millis(10)) {
            faults.push(("delay", "must be at least 10ms"));
        }
        if self.memory == Limit::Bytes(0) {
            faults.push(("memory", "must be above 0"));
        }
        faults
    }
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "auto" => Ok(Limit::Auto),
        "off" => Ok(Limit::Off),
        size => {
            Size::deserialize(serde::de::value::StrDeserializer::<D::Error>::new(size)).map(|size| Limit::Bytes(size.0))
        }
    }
}

fn delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    duration::deserialize(serde::de::value::StrDeserializer::<D::Error>::new(&text)).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_says_how_much_and_when() {
        let read = |text: &str| serde_saphyr::from_str::<Config>(text);
        let config = read("{memory: 512MiB, shed: 0.9, close_connections: 0.9, delay: off}").unwrap();
        assert_eq!((config.memory, config.delay), (Limit::Bytes(512 << 20), None));
        assert!(config.faults().is_empty());
        assert_eq!(read("{memory: off}").unwrap().memory, Limit::Off);
        for wrong in ["{memory: lots}", "{delay: soon}", "{sehd: 0.9}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let wrong = read("{shorten_timeouts: 0, shed: 0.5, stop_accepting: 1.5, delay: 1ms, memory: 0B}").unwrap();
        let places: Vec<_> = wrong.faults().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["shorten_timeouts", "shed", "stop_accepting", "delay", "memory"]);
    }
}
