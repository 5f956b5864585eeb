//! The envelope: CloudEvents 1.0 (<https://github.com/cloudevents/spec>), made and asked here, written and read in
//! `wire.rs`, judged in `rule.rs`.

use std::collections::BTreeMap;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Name, rule};

/// An event with its attributes. Serialized, it is the structured JSON form of CloudEvents 1.0; deserialized, it has been
/// checked as [`Envelope::check`] does. `recordedtime`, `sequence` and `cursor` are stamped by the bus;
/// [`Envelope::parse`] ignores them.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// At most 128 bytes, printable, without `.`; with `source` it is the dedupe key.
    pub id: String,
    /// Who produced it, a URI reference: `/services/product`, `/clients/alice`.
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
    pub time: OffsetDateTime,
    /// When the bus recorded it.
    pub recordedtime: Option<OffsetDateTime>,
    /// Its position in its partition.
    pub sequence: Option<u64>,
    /// Its place, for clients; opaque.
    pub cursor: Option<String>,
    pub correlationid: Option<String>,
    /// The id of the event that caused this one.
    pub causationid: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    /// After it the event isn't delivered any more.
    pub expirytime: Option<OffsetDateTime>,
    /// Before it the event isn't recorded.
    pub deliverytime: Option<OffsetDateTime>,
    /// 0 (droppable) to 9 (critical), default 4.
    pub priority: u8,
    /// The principal whose event it is.
    pub owner: Option<String>,
    /// Where the receipt goes: a queue or a webhook.
    pub replyto: Option<String>,
    /// The position of the key's last event that must still hold.
    pub expectedversion: Option<u64>,
    /// Media type of the data; `application/json` unless given.
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    /// Where data lies that is too large for here.
    pub dataref: Option<String>,
    pub data: Option<Data>,
    /// Attributes that this program doesn't know: kept and written back. Strings, booleans and integers.
    pub extensions: BTreeMap<String, Value>,
}

/// What an event says; at most [`Envelope::MAX_DATA_BYTES`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Json(Value),
    /// Written as Base64.
    Binary(Vec<u8>),
}

/// Why something is not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct EnvelopeError {
    /// The attribute, as it is written in JSON; `event` where it is the document as a whole.
    pub field: String,
    pub reason: String,
}

impl EnvelopeError {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into() }
    }

    /// Whether it is data of more than [`Envelope::MAX_DATA_BYTES`].
    pub fn is_too_large(&self) -> bool {
        self.reason == TOO_LARGE
    }
}

pub(crate) const TOO_LARGE: &str = "must be at most 256 KiB";

impl Envelope {
    /// The most bytes of data, as JSON text or as bytes.
    pub const MAX_DATA_BYTES: usize = 256 * 1024;
    pub const DEFAULT_PRIORITY: u8 = 4;

    /// A new event of `source` that happened now, with a UUIDv7 as its id.
    pub fn new(source: impl Into<String>, queue: Name, event: Name) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            source: source.into(),
            r#type: default_type(&queue, &event),
            queue,
            event,
            subject: None,
            partitionkey: None,
            time: now(),
            recordedtime: None,
            sequence: None,
            cursor: None,
            correlationid: None,
            causationid: None,
            traceparent: None,
            tracestate: None,
            expirytime: None,
            deliverytime: None,
            priority: Self::DEFAULT_PRIORITY,
            owner: None,
            replyto: None,
            expectedversion: None,
            datacontenttype: None,
            dataschema: None,
            dataref: None,
            data: None,
            extensions: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets what orders it.
    #[must_use]
    pub fn partitionkey(mut self, key: impl Into<String>) -> Self {
        self.partitionkey = Some(key.into());
        self
    }

    #[must_use]
    pub fn data(mut self, json: Value) -> Self {
        self.datacontenttype = Some(JSON.to_owned());
        self.data = Some(Data::Json(json));
        self
    }

    #[must_use]
    pub fn binary(mut self, content_type: impl Into<String>, bytes: Vec<u8>) -> Self {
        self.datacontenttype = Some(content_type.into());
        self.data = Some(Data::Binary(bytes));
        self
    }

    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Says which event caused this one: its id, and the correlation it belongs to.
    #[must_use]
    pub fn caused_by(mut self, parent: &Self) -> Self {
        self.causationid = Some(parent.id.clone());
        self.correlationid = Some(parent.correlationid.clone().unwrap_or_else(|| parent.id.clone()));
        self
    }

    /// What orders it: `partitionkey`, else `subject`, else `id`.
    pub fn key(&self) -> &str {
        self.partitionkey.as_deref().or(self.subject.as_deref()).unwrap_or(&self.id)
    }

    /// The JSON data, if that is what it carries.
    pub fn json(&self) -> Option<&Value> {
        match &self.data {
            Some(Data::Json(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether every attribute keeps to its rule and the data to its size.
    ///
    /// # Errors
    /// Names the first attribute that doesn't.
    pub fn check(&self) -> Result<(), EnvelopeError> {
        rule::check(self)
    }
}

pub(crate) const JSON: &str = "application/json";

pub(crate) fn default_type(queue: &Name, event: &Name) -> String {
    let mut name = ["turnpike.", queue.as_str(), ".", event.as_str()].concat();
    name.make_ascii_lowercase();
    name
}

/// Whole microseconds, which is what databases keep.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now)
}
