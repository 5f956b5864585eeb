//! A row of the outbox, and the envelope that it is.

use database::Error;
use events::{Envelope, Name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// The attributes without a column of their own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    /// All of it, where it was published by somebody else ([`crate::Journal`]); then there is no data besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Value>,
}

impl Headers {
    pub fn whole(envelope: &Envelope) -> serde_json::Result<Self> {
        Ok(Self { envelope: Some(serde_json::to_value(envelope)?), ..Self::default() })
    }

    pub fn of(envelope: &Envelope) -> Self {
        Self {
            causationid: envelope.causationid.clone(),
            correlationid: envelope.correlationid.clone(),
            owner: envelope.owner.clone(),
            traceparent: envelope.traceparent.clone(),
            tracestate: envelope.tracestate.clone(),
            envelope: None,
        }
    }
}

/// A queue's partition, which has its own numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub queue: Name,
    pub partition: u32,
}

/// A row that has no number yet.
pub(crate) struct Unstamped {
    pub seq: i64,
    pub queue: Name,
    pub key: String,
}

/// A row that has its number and is to be published.
pub(crate) struct Stamped {
    pub publish_no: i64,
    /// About what it takes on the bus.
    pub bytes: usize,
    pub envelope: Envelope,
}

/// Where the bus recorded a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub publish_no: i64,
    pub lineage: i64,
    pub position: i64,
}

/// Attributes and punctuation of an envelope, generously.
const ENVELOPE_BYTES: usize = 1024;

impl Stamped {
    pub fn read(row: &database::Row) -> Result<Self, Error> {
        let (headers, data): (String, String) = (row.get("headers")?, row.get("data")?);
        let (key, source): (String, String) = (row.get("key")?, row.get("source")?);
        let bytes = ENVELOPE_BYTES + headers.len() + data.len() + key.len() + source.len();
        let more: Headers = json(&headers)?;
        if let Some(envelope) = more.envelope {
            let envelope = serde_json::from_value(envelope);
            let envelope = envelope.map_err(|error| Error::Query(format!("a row of the outbox: {error}")))?;
            return Ok(Self { publish_no: row.get("publish_no")?, bytes, envelope });
        }
        let mut envelope = Envelope::new(source, name(row, "queue")?, name(row, "event")?)
            .id(row.get::<String>("id")?)
            .subject(key)
            .data(json(&data)?);
        envelope.time = row.get::<OffsetDateTime>("created_at")?;
        envelope.causationid = more.causationid;
        envelope.correlationid = more.correlationid;
        envelope.owner = more.owner;
        envelope.traceparent = more.traceparent;
        envelope.tracestate = more.tracestate;
        Ok(Self { publish_no: row.get("publish_no")?, bytes, envelope })
    }
}

pub(crate) fn name(row: &database::Row, column: &str) -> Result<Name, Error> {
    Name::new(&row.get::<String>(column)?).map_err(|error| Error::Query(error.to_string()))
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Query(format!("a row of the outbox: {error}")))
}
