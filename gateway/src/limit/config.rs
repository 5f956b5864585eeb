//! `rate_limit: { requests: 100, per: 1m, key: principal }`, `{ rate: 10/s, burst: 20, key: client_address }`.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::Key;
use crate::action::duration;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How `RateLimit` fields and metrics call it; by default after its key. Limits of one name are one limit, wherever they
    /// stand: they count together.
    pub name: Option<String>,
    pub quota: Quota,
    pub key: Key,
    /// How many requests each request counts as; default 1. It may differ where limits are one.
    pub cost: NonZeroU32,
    pub mode: Mode,
    /// Counted together with the other gateways, where there is a Redis for it; default true.
    pub shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Never more than `requests` in any span of `per`.
    Window { requests: NonZeroU32, per: Duration },
    /// On average `per_second`, with up to `burst` at once.
    Rate { per_second: NonZeroU32, burst: NonZeroU32 },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Enforce,
    /// Counts what it would refuse, and refuses nothing.
    Shadow,
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimit")]
struct Written {
    name: Option<String>,
    requests: Option<u32>,
    #[serde(default, deserialize_with = "duration::option")]
    per: Option<Duration>,
    rate: Option<String>,
    burst: Option<u32>,
    key: Key,
    #[serde(default = "one")]
    cost: u32,
    #[serde(default)]
    mode: Mode,
    #[serde(default = "yes")]
    shared: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl Config {
    /// Whether two that have one name can be one limit.
    pub fn is_the_same(&self, other: &Self) -> bool {
        Self { cost: other.cost, ..self.clone() } == *other
    }
}

impl schemars::JsonSchema for Config {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<Written>()
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let quota = written.quota().map_err(D::Error::custom)?;
        if let Some(name) = &written.name
            && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
        {
            return Err(D::Error::custom("the name of a rate limit is made of letters, digits, `-`, `_` and `.`"));
        }
        let cost = positive(written.cost, "cost").map_err(D::Error::custom)?;
        let most = match quota {
            Quota::Window { requests: most, .. } | Quota::Rate { burst: most, .. } => most,
        };
        if cost > most {
            return Err(D::Error::custom(format!("no request could ever pass: each costs {cost} of {most}")));
        }
        Ok(Self { name: written.name, quota, key: written.key, cost, mode: written.mode, shared: written.shared })
    }
}

impl Written {
    fn quota(&self) -> Result<Quota, String> {
        match (self.requests, self.per, &self.rate, self.burst) {
            (Some(requests), Some(per), None, None) => {
                // The window is kept in 64 parts; below that a part is too short to mean anything.
                if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&per) {
                    return Err("`per` must be within 1s to 24h".to_owned());
                }
                Ok(Quota::Window { requests: positive(requests, "requests")?, per })
            }
            (None, None, Some(rate), burst) => {
                let per_second = rate.strip_suffix("/s").and_then(|number| number.trim().parse().ok());
                let per_second = per_second.ok_or_else(|| format!("`{rate}` is not a rate such as 10/s"))?;
                let per_second = positive(per_second, "rate")?;
                Ok(Quota::Rate { per_second, burst: burst.map_or(Ok(per_second), |burst| positive(burst, "burst"))? })
            }
            _ => Err("a rate limit has either `requests` and `per`, or `rate` and `burst`".to_owned()),
        }
    }
}

fn positive(number: u32, field: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::new(number).ok_or_else(|| format!("`{field}` must be at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_limit_is_a_window_or_a_rate() {
        let window = read("{requests: 100, per: 1m, key: principal}").unwrap();
        let requests = NonZeroU32::new(100).unwrap();
        assert_eq!(window.quota, Quota::Window { requests, per: Duration::from_secs(60) });
        let rate = read("{rate: 10/s, burst: 20, key: 'header:x-tenant', mode: shadow}").unwrap();
        assert_eq!((rate.mode, rate.cost.get()), (Mode::Shadow, 1));
        assert_eq!(read("{requests: 5, per: 1m, key: [principal, route], cost: 5}").unwrap().cost.get(), 5);
        for wrong in [
            "{requests: 100, key: route}",
            "{requests: 0, per: 1m, key: route}",
            "{requests: 1, per: 10ms, key: route}",
            "{requests: 1, per: 1m, rate: 1/s, key: route}",
            "{rate: 10, key: route}",
            "{rate: 10/s, key: nobody}",
            "{rate: 10/s}",
            "{rate: 10/s, key: route, name: 'a\"b'}",
            "{rate: 10/s, key: route, cost: 0}",
            "{rate: 10/s, key: route, cost: 11}",
            "{requests: 5, per: 1m, key: route, cost: 6}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
