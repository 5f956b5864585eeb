//! Where a value lies in an event: an attribute (`subject`, `priority`, `tenant`), or a field of its JSON data by its path
//! (`data.status`, `data.items.0.sku`, `data."a.b"`).

use std::{borrow::Cow, fmt};

use serde_json::{Number, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Envelope,
    reader::{Reader, is_plain, write_joined, write_quoted},
};

/// The deepest way into the data.
const MAX_DEPTH: usize = 8;
/// The longest name of a member, in bytes.
const MAX_MEMBER: usize = 128;
const MAX_ATTRIBUTE: usize = 64;
/// They are attributes, but of the form or of the way, not of the event in the log.
const NOT_ASKED: [&str; 2] = ["specversion", "cursor"];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Attribute(String),
    /// Members, and places in lists, from the outside in; one at least.
    Data(Vec<String>),
}

/// What an event has in a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    /// An object or a list.
    Several,
}

impl Field {
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let name = reader.run(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if name.is_empty() || name.len() > MAX_ATTRIBUTE || NOT_ASKED.contains(&name) {
            return Err(format!("an attribute, or data.FIELD, is missing before {}", reader.ahead()));
        }
        if name != "data" {
            return Ok(Self::Attribute(name.to_owned()));
        }
        let mut members = Vec::new();
        while reader.takes(".") {
            let member = match reader.quoted() {
                Some(quoted) => quoted?,
                None => reader.run(is_member).to_owned(),
            };
            if member.is_empty() || member.len() > MAX_MEMBER {
                return Err(format!("a field's name has 1 to {MAX_MEMBER} bytes"));
            }
            members.push(member);
        }
        if members.is_empty() || members.len() > MAX_DEPTH {
            return Err(format!("a path into the data has 1 to {MAX_DEPTH} fields"));
        }
        Ok(Self::Data(members))
    }

    /// None: there is nothing, or null.
    pub fn of<'a>(&self, envelope: &'a Envelope) -> Option<Given<'a>> {
        match self {
            Self::Attribute(name) => attribute(name, envelope),
            Self::Data(members) => {
                let step = |value: &'a Value, member: &String| match value {
                    Value::Array(items) => items.get(member.parse::<usize>().ok()?),
                    value => value.get(member),
                };
                members.iter().try_fold(envelope.json()?, step).and_then(given)
            }
        }
    }
}

fn given(value: &Value) -> Option<Given<'_>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Given::Text(text.into())),
        Value::Number(number) => Some(Given::Number(number.clone())),
        Value::Bool(value) => Some(Given::Bool(*value)),
        Value::Array(_) | Value::Object(_) => Some(Given::Several),
    }
}

fn attribute<'a>(name: &str, envelope: &'a Envelope) -> Option<Given<'a>> {
    let text = |text: &'a str| Some(Given::Text(text.into()));
    let optional = |text: &'a Option<String>| text.as_deref().map(|text| Given::Text(text.into()));
    let number = |number: u64| Given::Number(number.into());
    let time = |time: OffsetDateTime| time.format(&Rfc3339).ok().map(|time| Given::Text(time.into()));
    match name {
        "id" => text(&envelope.id),
        "source" => text(&envelope.source),
        "type" => text(&envelope.r#type),
        "queue" => text(envelope.queue.as_str()),
        "event" => text(envelope.event.as_str()),
        "subject" => optional(&envelope.subject),
        "partitionkey" => optional(&envelope.partitionkey),
        "time" => time(envelope.time),
        "recordedtime" => envelope.recordedtime.and_then(time),
        "sequence" => envelope.sequence.map(number),
        "correlationid" => optional(&envelope.correlationid),
        "causationid" => optional(&envelope.causationid),
        "traceparent" => optional(&envelope.traceparent),
        "tracestate" => optional(&envelope.tracestate),
        "expirytime" => envelope.expirytime.and_then(time),
        "deliverytime" => envelope.deliverytime.and_then(time),
        "priority" => Some(number(envelope.priority.into())),
        "owner" => optional(&envelope.owner),
        "replyto" => optional(&envelope.replyto),
        "expectedversion" => envelope.expectedversion.map(number),
        "datacontenttype" => optional(&envelope.datacontenttype),
        "dataschema" => optional(&envelope.dataschema),
        "dataref" => optional(&envelope.dataref),
        extension => envelope.extensions.get(extension).and_then(given),
    }
}

fn is_member(c: char) -> bool {
    is_plain(c) && !matches!(c, '.' | '=' | '^')
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => f.write_str(name),
            Self::Data(members) => {
                f.write_str("data.")?;
                write_joined(f, members.iter().map(|member| Member(member)), '.')
            }
        }
    }
}

struct Member<'a>(&'a str);

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.chars().all(is_member) { f.write_str(self.0) } else { write_quoted(f, self.0) }
    }
}
