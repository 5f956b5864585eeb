//! The envelope as JSON: CloudEvents' structured mode, absent attributes left out, and the shorthand
//! `{"queue", "event", "payload"}`.
//!
//! An older reader keeps what a newer writer adds (unknown attributes are extensions), a newer reader gives what an
//! older writer left out its default; neither fails.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
    ser::{Error as _, SerializeMap},
};
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
    pub fn read(attributes: Map<String, Value>) -> Result<Self, EnvelopeError> {
        let mut attributes: Attributes = attributes.into_iter().collect();
        (attributes.recordedtime, attributes.sequence, attributes.cursor) = (None, None, None);
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
    pub fn read_shorthand(source: &str, mut members: Map<String, Value>) -> Result<Self, EnvelopeError> {
        let mut name = |field| name(field, members.remove(field));
        let mut envelope = Self::new(source, name("queue")?, name("event")?);
        if let Some(payload) = members.remove("payload") {
            envelope = envelope.data(payload);
        }
        if let Some(unknown) = members.keys().next() {
            return Err(EnvelopeError::new(unknown, "is not known: the shorthand has queue, event and payload"));
        }
        envelope.check()?;
        Ok(envelope)
    }

    fn from_attributes(mut attributes: Attributes) -> Result<Self, EnvelopeError> {
        attributes.forget_nulls();
        if required("specversion", attributes.specversion)? != "1.0" {
            return Err(EnvelopeError::new("specversion", "must be \"1.0\""));
        }
        let queue = name("queue", attributes.queue)?;
        let event = name("event", attributes.event)?;
        let data = data(attributes.data, attributes.data_base64)?;
        let json = matches!(data, Some(Data::Json(_)));
        let envelope = Self {
            id: text("id", attributes.id)?.unwrap_or_else(|| Uuid::now_v7().to_string()),
            source: required("source", attributes.source)?,
            r#type: text("type", attributes.r#type)?.unwrap_or_else(|| default_type(&queue, &event)),
            queue,
            event,
            subject: text("subject", attributes.subject)?,
            partitionkey: text("partitionkey", attributes.partitionkey)?,
            time: time("time", attributes.time)?.unwrap_or_else(now),
            recordedtime: time("recordedtime", attributes.recordedtime)?,
            sequence: number("sequence", attributes.sequence)?,
            cursor: text("cursor", attributes.cursor)?,
            correlationid: text("correlationid", attributes.correlationid)?,
            causationid: text("causationid", attributes.causationid)?,
            traceparent: text("traceparent", attributes.traceparent)?,
            tracestate: text("tracestate", attributes.tracestate)?,
            expirytime: time("expirytime", attributes.expirytime)?,
            deliverytime: time("deliverytime", attributes.deliverytime)?,
            priority: priority(attributes.priority)?,
            owner: text("owner", attributes.owner)?,
            replyto: text("replyto", attributes.replyto)?,
            expectedversion: number("expectedversion", attributes.expectedversion)?,
            datacontenttype: text("datacontenttype", attributes.datacontenttype)?
                .or_else(|| json.then(|| JSON.to_owned())),
            dataschema: text("dataschema", attributes.dataschema)?,
            dataref: text("dataref", attributes.dataref)?,
            data,
            extensions: attributes.extensions,
        };
        envelope.check()?;
        Ok(envelope)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_attributes(Attributes::deserialize(deserializer)?).map_err(D::Error::custom)
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
        map.serialize_entry("time", &Rfc(self.time))?;
        entry(&mut map, "recordedtime", self.recordedtime.map(Rfc))?;
        // Its extension's specification wants a string that sorts.
        entry(&mut map, "sequence", self.sequence.map(|sequence| format!("{sequence:020}")))?;
        entry(&mut map, "cursor", self.cursor.as_ref())?;
        entry(&mut map, "correlationid", self.correlationid.as_ref())?;
        entry(&mut map, "causationid", self.causationid.as_ref())?;
        entry(&mut map, "traceparent", self.traceparent.as_ref())?;
        entry(&mut map, "tracestate", self.tracestate.as_ref())?;
        entry(&mut map, "expirytime", self.expirytime.map(Rfc))?;
        entry(&mut map, "deliverytime", self.deliverytime.map(Rfc))?;
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

/// A time, written without a text of its own.
struct Rfc(OffsetDateTime);

impl Serialize for Rfc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // 2026-11-21T16:00:00.123456789+01:00
        let mut text = [0; 35];
        let mut left = text.as_mut_slice();
        self.0.format_into(&mut left, &Rfc3339).map_err(S::Error::custom)?;
        let length = 35 - left.len();
        serializer.serialize_str(std::str::from_utf8(&text[..length]).map_err(S::Error::custom)?)
    }
}

fn object(json: &[u8]) -> Result<Map<String, Value>, EnvelopeError> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(EnvelopeError::new("event", "must be a JSON object")),
        Err(error) => Err(EnvelopeError::new("event", format!("is not JSON: {error}"))),
    }
}

/// A document's attributes, each in its place.
macro_rules! attributes {
    ($($name:literal $field:ident,)*) => {
        #[derive(Default)]
        struct Attributes {
            $($field: Option<Value>,)*
            extensions: BTreeMap<String, Value>,
        }

        impl Attributes {
            /// The place of an attribute that this program knows.
            fn known(&mut self, name: &str) -> Option<&mut Option<Value>> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    _ => None,
                }
            }

            /// A null is an absent attribute.
            fn forget_nulls(&mut self) {
                $(self.$field.take_if(|value| value.is_null());)*
                self.extensions.retain(|_, value| !value.is_null());
            }
        }
    };
}

attributes! {
    "specversion" specversion,
    "id" id,
    "source" source,
    "type" r#type,
    "queue" queue,
    "event" event,
    "subject" subject,
    "partitionkey" partitionkey,
    "time" time,
    "recordedtime" recordedtime,
    "sequence" sequence,
    "cursor" cursor,
    "correlationid" correlationid,
    "causationid" causationid,
    "traceparent" traceparent,
    "tracestate" tracestate,
    "expirytime" expirytime,
    "deliverytime" deliverytime,
    "priority" priority,
    "owner" owner,
    "replyto" replyto,
    "expectedversion" expectedversion,
    "datacontenttype" datacontenttype,
    "dataschema" dataschema,
    "dataref" dataref,
    "data" data,
    "data_base64" data_base64,
}

/// Of several with one name the last one counts.
impl FromIterator<(String, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(all: I) -> Self {
        let mut attributes = Self::default();
        for (name, value) in all {
            match attributes.known(&name) {
                Some(place) => *place = Some(value),
                None => drop(attributes.extensions.insert(name, value)),
            }
        }
        attributes
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading(Self::default()))
    }
}

/// Reads a document; the name of an attribute that is known is compared where it stands.
struct Reading(Attributes);

impl<'de> Visitor<'de> for Reading {
    type Value = Attributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Attributes, A::Error> {
        while let Some(place) = map.next_key_seed(Places(&mut self.0))? {
            match place {
                Place::Known(place) => *place = Some(map.next_value()?),
                Place::Extension(name) => drop(self.0.extensions.insert(name, map.next_value()?)),
            }
        }
        Ok(self.0)
    }
}

/// Where the value of a name goes.
enum Place<'a> {
    Known(&'a mut Option<Value>),
    Extension(String),
}

struct Places<'a>(&'a mut Attributes);

impl<'de, 'a> DeserializeSeed<'de> for Places<'a> {
    type Value = Place<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place<'a>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Places<'a> {
    type Value = Place<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, name: &str) -> Result<Place<'a>, E> {
        Ok(self.0.known(name).map_or_else(|| Place::Extension(name.to_owned()), Place::Known))
    }
}

fn text(field: &str, value: Option<Value>) -> Result<Option<String>, EnvelopeError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(EnvelopeError::new(field, "must be a string")),
    }
}

fn required(field: &str, value: Option<Value>) -> Result<String, EnvelopeError> {
    text(field, value)?.ok_or_else(|| EnvelopeError::new(field, "is required"))
}

fn name(field: &str, value: Option<Value>) -> Result<Name, EnvelopeError> {
    Name::new(&required(field, value)?).map_err(|error| EnvelopeError::new(field, error.to_string()))
}

fn time(field: &str, value: Option<Value>) -> Result<Option<OffsetDateTime>, EnvelopeError> {
    let time = text(field, value)?.map(|text| OffsetDateTime::parse(&text, &Rfc3339));
    time.transpose().map_err(|_| EnvelopeError::new(field, "must be a time as in RFC 3339"))
}

/// A number of up to 64 bits, written as its digits.
fn number(field: &str, value: Option<Value>) -> Result<Option<u64>, EnvelopeError> {
    let refused = || EnvelopeError::new(field, "must be a number, 0 or more");
    match value {
        None => Ok(None),
        Some(Value::String(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| refused())
        }
        Some(value) => value.as_u64().map(Some).ok_or_else(refused),
    }
}

fn priority(value: Option<Value>) -> Result<u8, EnvelopeError> {
    let priority = match value {
        None => Some(Envelope::DEFAULT_PRIORITY),
        Some(value) => value.as_u64().and_then(|priority| u8::try_from(priority).ok()),
    };
    priority.ok_or_else(|| EnvelopeError::new("priority", "must be 0 to 9"))
}

fn data(json: Option<Value>, base64: Option<Value>) -> Result<Option<Data>, EnvelopeError> {
    match text("data_base64", base64)? {
        None => Ok(json.map(Data::Json)),
        Some(_) if json.is_some() => Err(EnvelopeError::new("data_base64", "must not stand beside data")),
        Some(text) => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(Data::Binary(bytes))),
            Err(_) => Err(EnvelopeError::new("data_base64", "must be Base64 as in RFC 4648, padded")),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_attribute_has_its_place() {
        let mut attributes = Attributes::default();
        for name in STANDARD.iter().chain(&EXTENSIONS) {
            assert!(attributes.known(name).is_some(), "{name}");
        }
        assert!(attributes.known("extensions").is_none());
    }

    fn member() -> impl Strategy<Value = (String, Value)> {
        let known = prop::sample::select([STANDARD.as_slice(), &EXTENSIONS].concat());
        let name = prop_oneof![8 => known.prop_map(str::to_owned), 1 => "[a-z]{0,3}", 1 => any::<String>()];
        let value = prop_oneof![
            4 => Just(Value::from("1.0")),
            4 => prop::sample::select(vec!["DB", "a", "2026-11-21T16:00:00Z", "17", "{}", "aGk=", ""]).prop_map(Value::from),
            1 => Just(Value::Null),
            1 => any::<i64>().prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
            1 => Just(serde_json::json!({ "a": [1, null] })),
        ];
        (name, value)
    }

    proptest! {
        #[test]
        fn a_document_is_read_as_its_attributes_are(
            members in prop::collection::vec(member(), 0..12),
            whole in any::<bool>(),
        ) {
            let base = [("specversion", "1.0"), ("source", "/s"), ("queue", "DB"), ("event", "CREATE"), ("id", "1"),
                ("time", "2026-11-21T16:00:00Z")];
            let base = base.into_iter().filter(|_| whole).map(|(name, value)| (name.to_owned(), Value::from(value)));
            let members: Vec<(String, Value)> = base.chain(members).collect();
            let text: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            let text = format!("{{{}}}", text.join(","));
            // A map keeps the last of several with one name.
            let map: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let read = serde_json::from_str::<Envelope>(&text).map_err(|error| error.to_string());
            let from_map = Envelope::from_attributes(map.into_iter().collect()).map_err(|error| error.to_string());
            match (read, from_map) {
                // What is absent is made anew each time.
                (Ok(mut read), Ok(from_map)) => {
                    (read.id, read.time) = (from_map.id.clone(), from_map.time);
                    prop_assert_eq!(read, from_map);
                }
                (read, from_map) => prop_assert_eq!(read.err(), from_map.err()),
            }
        }
    }
}
