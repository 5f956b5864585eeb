//! What the page is told, as JSON. Every value is absolute (a count is the count, not what came on top of it), so that
//! being told something twice changes nothing.

use std::collections::BTreeMap;

use bus::Connection;
use serde::Serialize;
use time::OffsetDateTime;

use crate::tally::{Missing, Reason};

/// Everything (a snapshot) or what changed (a delta): the two look the same.
#[derive(Debug, Serialize)]
pub(crate) struct Told<'a> {
    /// The place in the board's history that this leads to.
    pub position: String,
    /// Milliseconds since 1970, by the server's clock.
    pub at: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<&'a str, QueueTold<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<&'a Recent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<&'a Second>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<&'a Vec<GroupTold>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<&'a Connections>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<&'a BTreeMap<String, Gateway>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub troubles: Option<&'a BTreeMap<&'static str, String>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueueTold<'a> {
    pub total: u64,
    /// Of names beyond the most that are told apart.
    pub others: u64,
    pub state: &'a State,
    pub missing: &'a BTreeMap<Reason, Missing>,
    #[serde(flatten)]
    pub log: Log,
    /// Those that changed.
    pub events: BTreeMap<&'a str, EventTold>,
}

/// How a queue is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub(crate) enum State {
    CatchingUp,
    Live,
    Away(String),
}

/// A queue's log: sums over its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Log {
    pub partitions: usize,
    /// Positions that were ever given.
    pub head: u64,
    /// Events that are kept.
    pub kept: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct EventTold {
    pub count: u64,
    /// Recorded in the last 60 s.
    pub minute: u32,
    /// Recorded in the last 5 s that are over.
    pub lately: u32,
}

/// An event without its payload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recent {
    pub queue: String,
    pub event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub source: String,
    /// Milliseconds since 1970.
    pub time: i64,
    pub partition: u32,
    pub position: u64,
}

/// What happened in a second.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Second {
    /// Since 1970.
    pub second: i64,
    /// Events recorded in it, by queue.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u32>,
    /// By gateway; one that couldn't be asked is missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<String, Traffic>,
}

/// A gateway's traffic, over the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Traffic {
    /// Requests a second, by the class of their status: 1xx to 5xx.
    pub rates: [f64; 5],
    /// Milliseconds; None: no requests.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Gateway {
    #[serde(flatten)]
    pub health: Health,
    pub traffic: Option<Traffic>,
    pub in_flight: Option<f64>,
    pub connections: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "health", content = "reasons", rename_all = "snake_case")]
pub(crate) enum Health {
    /// Not asked yet.
    Unknown,
    Ready,
    NotReady(Vec<String>),
    Away(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GroupTold {
    pub name: String,
    pub filter: String,
    pub mode: &'static str,
    pub lag: u64,
    pub in_flight: u64,
    pub retrying: u64,
    pub parked: u64,
    pub dead: u64,
    pub blocked: bool,
    /// When the oldest unsettled event was recorded: milliseconds since 1970.
    pub oldest: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Connections {
    pub total: usize,
    pub transports: BTreeMap<&'static str, usize>,
    /// The first hundred.
    pub listed: Vec<Connection>,
}

pub(crate) fn milliseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
