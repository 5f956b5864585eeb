//! The envelope: CloudEvents 1.0 in its structured JSON form (<https://github.com/cloudevents/spec>).

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Name;

/// An event with its attributes. What the bus stamps (`recordedtime`, `sequence`, `cursor`) is ignored on input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// At most 128 bytes, without `.`; with `source` it is the dedupe key.
    pub id: String,
    /// Who produced it: `/services/product`, `/clients/alice`.
    pub source: String,
    /// `<ns>.<queue>.<event>` in lower case, for outsiders; routing uses `queue` and `event`.
    pub r#type: String,
    pub queue: Name,
    pub event: Name,
    /// The entity: `products/42`.
    pub subject: Option<String>,
    /// What orders; see [`Envelope::key`].
    pub partitionkey: Option<String>,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub recordedtime: Option<OffsetDateTime>,
    pub correlationid: Option<String>,
    /// The id of the event that caused this one.
    pub causationid: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub expirytime: Option<OffsetDateTime>,
    /// 0 (droppable) to 9 (critical), default 4.
    pub priority: u8,
    /// The principal whose event it is.
    pub owner: Option<String>,
    pub replyto: Option<String>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    pub data: Option<Data>,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Data {
    Json(serde_json::Value),
    Binary(Vec<u8>),
}

impl Envelope {
    /// A new event of `source`, with a UUIDv7 as its id and the default attributes.
    pub fn new(source: impl Into<String>, queue: Name, event: Name) -> Self {
        let _ = (source.into(), queue, event);
        todo!()
    }

    /// What orders it: `partitionkey`, else `subject`, else `id`.
    pub fn key(&self) -> &str {
        self.partitionkey.as_deref().or(self.subject.as_deref()).unwrap_or(&self.id)
    }

    /// The JSON data, if that is what it carries.
    pub fn json(&self) -> Option<&serde_json::Value> {
        match &self.data {
            Some(Data::Json(value)) => Some(value),
            _ => None,
        }
    }
}
