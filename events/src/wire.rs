//! The envelope as JSON: CloudEvents' structured mode, absent attributes left out, and the shorthand
//! `{"queue", "event", "payload"}`.
//!
//! An older reader keeps what a newer writer adds (unknown attributes are extensions), a newer reader gives what an
//! older writer left out its default; neither fails.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    Data, Envelope, EnvelopeError, Name,
    envelope::{JSON, default_type, now},
};

/// CloudEvents' own attributes.
pub(crate) const STANDARD: [&str; 10] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"];

/// The bus's.
pub(crate) const EXTENSIONS: [&str; 17] = [
    "queue",
    "event",
    "partitionkey",
    "recordedtime",
    "sequence",
    "cursor",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
    "expirytime",
    "deliverytime",
    "priority",
    "owner",
    "replyto",
    "expectedversion",
    "dataref",
];

/// What the bus stamps, whatever a producer writes there.
const STAMPED: [&str; 3] = ["recordedtime", "sequence", "cursor"];

impl Envelope {
    /// Reads what a producer sends: CloudEvents 1.0 in structured JSON. `id` is made and `time` is now where they are
    /// absent; what the bus stamps is ignored.
    ///
    /// # Errors
    /// Names the attribute that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        Self::read(object(json)?)
    }

    /// As [`Envelope::parse`], of attributes that were read from elsewhere: a batch, or header fields.
    ///
    /// # Errors
    /// Names the attribute that is wrong.
    pub fn read(mut attributes: Map<String, Value>) -> Result<Self, EnvelopeError> {
        for stamped in STAMPED {
            attributes.remove(stamped);
        }
        Self::from_attributes(attributes)
    }

    /// Reads the shorthand `{"queue":"DB","event":"CREATE","payload":{…}}` as a new event of `source`.
    ///
    /// # Errors
    /// Names the member that is wrong.
    pub fn parse_shorthand(source: &str, json: &[u8]) -> Result<Self, EnvelopeError> {
        Self::read_shorthand(source, object(json)?)
    }

    /// As [`Envelope::parse_shorthand`], of members that were read from elsewhere.
    ///
    /// # Errors
    /// Names the member that is wrong.
    pub fn read_shorthand(source: &str, members: Map<String, Value>) -> Result<Self, EnvelopeError> {
        let mut members = Attributes(members);
        let mut envelope = Self::new(source, members.name("queue")?, members.name("event")?);
        if let Some(payload) = members.0.remove("payload") {
            envelope = envelope.data(payload);
        }
        if let Some(unknown) = members.0.keys().next() {
            return Err(EnvelopeError::new(unknown, "is not known: the shorthand has queue, event and payload"));
        }
        envelope.check()?;
        Ok(envelope)
    }

    fn from_attributes(attributes: Map<String, Value>) -> Result<Self, EnvelopeError> {
        let mut attributes = Attributes(attributes);
        // A null is an absent attribute.
        attributes.0.retain(|_, value| !value.is_null());
        if attributes.required("specversion")? != "1.0" {
            return Err(EnvelopeError::new("specversion", "must be \"1.0\""));
        }
        let queue = attributes.name("queue")?;
        let event = attributes.name("event")?;
        let data = attributes.data()?;
        let json = matches!(data, Some(Data::Json(_)));
        let envelope = Self {
            id: attributes.text("id")?.unwrap_or_else(|| Uuid::now_v7().to_string()),
            source: attributes.required("source")?,
            r#type: attributes.text("type")?.unwrap_or_else(|| default_type(&queue, &event)),
            queue,
            event,
            subject: attributes.text("subject")?,
            partitionkey: attributes.text("partitionkey")?,
            time: attributes.time("time")?.unwrap_or_else(now),
            recordedtime: attributes.time("recordedtime")?,
            sequence: attributes.number("sequence")?,
            cursor: attributes.text("cursor")?,
            correlationid: attributes.text("correlationid")?,
            causationid: attributes.text("causationid")?,
            traceparent: attributes.text("traceparent")?,
            tracestate: attributes.text("tracestate")?,
            expirytime: attributes.time("expirytime")?,
            deliverytime: attributes.time("deliverytime")?,
            priority: attributes.priority()?,
            owner: attributes.text("owner")?,
            replyto: attributes.text("replyto")?,
            expectedversion: attributes.number("expectedversion")?,
            datacontenttype: attributes.text("datacontenttype")?.or_else(|| json.then(|| JSON.to_owned())),
            dataschema: attributes.text("dataschema")?,
            dataref: attributes.text("dataref")?,
            data,
            extensions: attributes.0.into_iter().collect(),
        };
        envelope.check()?;
        Ok(envelope)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_attributes(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("type", &self.r#type)?;
        map.serialize_entry("queue", &self.queue)?;
        map.serialize_entry("event", &self.event)?;
        entry(&mut map, "subject", self.subject.as_ref())?;
        entry(&mut map, "partitionkey", self.partitionkey.as_ref())?;
        map.serialize_entry("time", &rfc3339(self.time)?)?;
        entry(&mut map, "recordedtime", self.recordedtime.map(rfc3339).transpose()?)?;
        // Its extension's specification wants a string that sorts.
        entry(&mut map, "sequence", self.sequence.map(|sequence| format!("{sequence:020}")))?;
        entry(&mut map, "cursor", self.cursor.as_ref())?;
        entry(&mut map, "correlationid", self.correlationid.as_ref())?;
        entry(&mut map, "causationid", self.causationid.as_ref())?;
        entry(&mut map, "traceparent", self.traceparent.as_ref())?;
        entry(&mut map, "tracestate", self.tracestate.as_ref())?;
        entry(&mut map, "expirytime", self.expirytime.map(rfc3339).transpose()?)?;
        entry(&mut map, "deliverytime", self.deliverytime.map(rfc3339).transpose()?)?;
        map.serialize_entry("priority", &self.priority)?;
        entry(&mut map, "owner", self.owner.as_ref())?;
        entry(&mut map, "replyto", self.replyto.as_ref())?;
        // A position outgrows CloudEvents' integers of 32 bits.
        entry(&mut map, "expectedversion", self.expectedversion.map(|version| version.to_string()))?;
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        entry(&mut map, "dataschema", self.dataschema.as_ref())?;
        entry(&mut map, "dataref", self.dataref.as_ref())?;
        match &self.data {
            None => entry(&mut map, "datacontenttype", self.datacontenttype.as_ref())?,
            Some(Data::Json(value)) => {
                map.serialize_entry("datacontenttype", self.datacontenttype.as_deref().unwrap_or(JSON))?;
                map.serialize_entry("data", value)?;
            }
            Some(Data::Binary(bytes)) => {
                entry(&mut map, "datacontenttype", self.datacontenttype.as_ref())?;
                map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?;
            }
        }
        map.end()
    }
}

fn entry<M: SerializeMap>(map: &mut M, name: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

fn rfc3339<E: serde::ser::Error>(time: OffsetDateTime) -> Result<String, E> {
    time.format(&Rfc3339).map_err(E::custom)
}

fn object(json: &[u8]) -> Result<Map<String, Value>, EnvelopeError> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(EnvelopeError::new("event", "must be a JSON object")),
        Err(error) => Err(EnvelopeError::new("event", format!("is not JSON: {error}"))),
    }
}

/// What is still unread of a document.
struct Attributes(Map<String, Value>);

impl Attributes {
    fn text(&mut self, field: &str) -> Result<Option<String>, EnvelopeError> {
        match self.0.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(EnvelopeError::new(field, "must be a string")),
        }
    }

    fn required(&mut self, field: &str) -> Result<String, EnvelopeError> {
        self.text(field)?.ok_or_else(|| EnvelopeError::new(field, "is required"))
    }

    fn name(&mut self, field: &str) -> Result<Name, EnvelopeError> {
        Name::new(&self.required(field)?).map_err(|error| EnvelopeError::new(field, error.to_string()))
    }

    fn time(&mut self, field: &str) -> Result<Option<OffsetDateTime>, EnvelopeError> {
        let time = self.text(field)?.map(|text| OffsetDateTime::parse(&text, &Rfc3339));
        time.transpose().map_err(|_| EnvelopeError::new(field, "must be a time as in RFC 3339"))
    }

    /// A number of up to 64 bits, written as its digits.
    fn number(&mut self, field: &str) -> Result<Option<u64>, EnvelopeError> {
        let refused = || EnvelopeError::new(field, "must be a number, 0 or more");
        match self.0.remove(field) {
            None => Ok(None),
            Some(Value::String(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map(Some).map_err(|_| refused())
            }
            Some(value) => value.as_u64().map(Some).ok_or_else(refused),
        }
    }

    fn priority(&mut self) -> Result<u8, EnvelopeError> {
        let priority = match self.0.remove("priority") {
            None => Some(Envelope::DEFAULT_PRIORITY),
            Some(value) => value.as_u64().and_then(|priority| u8::try_from(priority).ok()),
        };
        priority.ok_or_else(|| EnvelopeError::new("priority", "must be 0 to 9"))
    }

    fn data(&mut self) -> Result<Option<Data>, EnvelopeError> {
        let json = self.0.remove("data");
        match self.text("data_base64")? {
            None => Ok(json.map(Data::Json)),
            Some(_) if json.is_some() => Err(EnvelopeError::new("data_base64", "must not stand beside data")),
            Some(text) => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok(Some(Data::Binary(bytes))),
                Err(_) => Err(EnvelopeError::new("data_base64", "must be Base64 as in RFC 4648, padded")),
            },
        }
    }
}
