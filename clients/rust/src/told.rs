//! What a subscription tells, what a publish is answered, and who is there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Error;

/// What a subscription tells, in the order of the log. Cursors are opaque, and good on any broker of the same bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Event(EventTold),
    /// Events that nobody can have any more.
    Gap(Gap),
    /// All that was there when following began has been told.
    CaughtUp {
        cursor: String,
    },
    /// A link of the chain was not there: what lies behind `expected` is being read again.
    Missed {
        expected: String,
        got: String,
    },
    /// The last word: it was refused, or the client has ended for good.
    Ended(Error),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EventTold {
    /// The place after it.
    pub cursor: String,
    /// The place before it: after what was told last.
    pub prev: String,
    /// It was there when following began.
    pub replay: bool,
    pub event: Event,
}

/// An event, as CloudEvents 1.0 has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    pub id: String,
    pub source: String,
    pub queue: String,
    pub event: String,
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub partitionkey: Option<String>,
    /// Null where there is none, or where it is no JSON (`data_base64`).
    #[serde(default)]
    pub data: Value,
    /// The other attributes.
    #[serde(flatten)]
    pub attributes: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Gap {
    pub from: String,
    pub to: String,
    /// How many; None where nobody can know.
    pub lost: Option<u64>,
    /// `retention`, `lineage`, `reset`, `unreadable`.
    pub reason: String,
    pub queue: String,
}

/// Who is in a room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    pub user: String,
    /// RFC 3339.
    pub since: String,
    /// 0 of one whose connection was lost, for a time of grace.
    pub connections: usize,
}

/// Whether a user is online.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Presence {
    pub user: String,
    pub online: bool,
    /// Since when, of one who is: RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// When its last connection ended, if that is known.
    #[serde(default)]
    pub last_seen: Option<String>,
    /// 0 of one whose connection was lost, for a time of grace.
    pub connections: usize,
}

/// That an event is confirmed, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    pub id: String,
    /// Where it was recorded; None: it waits for its `deliverytime`.
    #[serde(default)]
    pub cursor: Option<String>,
    /// The level that was reached, and the one that was asked for.
    pub confirm: String,
    pub requested: String,
    /// It was recorded before, under the same id.
    #[serde(default)]
    pub duplicate: bool,
    #[serde(default)]
    pub degraded: bool,
    /// Why less was reached than asked for.
    #[serde(default)]
    pub reason: Option<String>,
    /// How it stands with each group.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
}
