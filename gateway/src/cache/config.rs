//! What a file says of caching: `cache:` for all, and on routes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    action::duration,
    config::{Redis, Size},
};

/// `cache: { size: 256MiB, purge: [{ filter: "DB/*", tags: ["{collection}", "{collection}:{id}"] }] }`: how much is kept, and
/// which events purge what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "CacheSection")]
pub struct Section {
    /// The most bytes that kept answers take up, with their keys and headers. 1MiB to 64GiB, default 128MiB.
    pub size: Size,
    /// The largest body that is kept. At most an eighth of `size`, default 1MiB.
    pub object: Size,
    /// Which events purge which tags, on every gateway at once. Default none. Can't change while the gateway runs.
    pub purge: Vec<Purge>,
    /// How long answers that events purge are given while the bus is away: from when they were fetched, or from when the
    /// bus was last heard. 0s to 1h, default 30s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub bus_away: Duration,
    /// The Redis that the bus is in; default that of `shared`. Not needed where the bus is in the same process.
    pub redis: Redis,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            size: Size::mib(128),
            object: Size::mib(1),
            purge: Vec::new(),
            bus_away: Duration::from_secs(30),
            redis: Redis::default(),
        }
    }
}

impl Section {
    /// What is wrong with its numbers: where it stands, and what it is.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.size < Size::mib(1) || self.size > Size::mib(64 << 10) {
            faults.push(("size", "must be within 1MiB to 64GiB".to_owned()));
        }
        if self.object == Size(0) || self.object.0 > self.size.0 / 8 {
            faults.push(("object", format!("must be above 0 and at most an eighth of `size`, {}", self.size)));
        }
        if self.bus_away > Duration::from_secs(3600) {
            faults.push(("bus_away", "must be at most 1h".to_owned()));
        }
        faults
    }

    /// Whether purges come as they did before.
    pub fn follows_as(&self, other: &Self) -> bool {
        self.purge == other.purge && self.redis == other.redis && self.bus_away == other.bus_away
    }
}

/// `{ filter: "DB/*", tags: ["{collection}:{id}"] }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// `QUEUE/EVENT`, `QUEUE/{A,B}` or `QUEUE/*`.
    pub filter: String,
    /// With `{collection}` and `{id}`, the two halves of the event's subject (`things/42`), `{subject}`, `{queue}`, `{event}`,
    /// and fields of its data (`{data.thing_id}`).
    pub tags: Vec<String>,
}

/// `cache: { ttl: 60s, tags: ["things:{id}"] }`: answers to GET and HEAD are kept by RFC 9111.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RouteCache")]
pub struct Config {
    /// How long a 200 is good that doesn't say so itself. At most 8760h; by default such an answer is not kept.
    #[serde(deserialize_with = "duration::option")]
    pub ttl: Option<Duration>,
    /// How long after that it is still given, while it is fetched anew; the answer's own word goes first. Default 30s.
    #[serde(deserialize_with = "duration::option")]
    pub stale_while_revalidate: Option<Duration>,
    /// How long after that it is still given where the service fails; the answer's own word goes first. Default 0s.
    #[serde(deserialize_with = "duration::option")]
    pub stale_if_error: Option<Duration>,
    /// What purges an answer: with variables of the path (`"things:{id}"`) and fields of the answer's JSON
    /// (`"things:{thing.id}"`; `"things:{things.id}"` is a tag for each in the list). A write on the route purges its tags
    /// at once. Default none.
    pub tags: Vec<String>,
    /// Request headers that the answer depends on, beside those its `Vary` names. Default: what the action forwards to a
    /// gRPC service as metadata, else none.
    pub vary: Option<Vec<String>>,
    /// For whom an answer is kept: `principal` for the caller whom it was given to, `public` for everybody who may take the
    /// route. Default `principal`; an answer with `Cache-Control: public` is for everybody.
    pub per: Per,
}

/// For whom an answer is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    #[default]
    Principal,
    Public,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_can_not_be_are_told() {
        assert!(Section::default().faults().is_empty());
        let text = "{size: 512KiB, object: 1MiB, bus_away: 2h}";
        let faults = serde_saphyr::from_str::<Section>(text).unwrap().faults();
        assert_eq!(faults.iter().map(|(place, _)| *place).collect::<Vec<_>>(), ["size", "object", "bus_away"]);
    }
}
