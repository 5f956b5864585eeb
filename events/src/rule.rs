//! What an attribute may be. The bounds that CloudEvents leaves open are BUS.md's, or chosen so that an envelope
//! without its data stays within some tens of KiB.

use std::io;

use serde_json::Value;

use crate::{
    Envelope, EnvelopeError,
    envelope::{Data, TOO_LARGE},
    wire::{EXTENSIONS, STANDARD},
};

const MAX_ID_BYTES: usize = 128;
const MAX_ATTRIBUTE_BYTES: usize = 2048;
const MAX_EXTENSIONS: usize = 32;

pub(crate) fn check(envelope: &Envelope) -> Result<(), EnvelopeError> {
    id(&envelope.id)?;
    uri_reference("source", &envelope.source)?;
    text("type", &envelope.r#type)?;
    let texts = [
        ("subject", &envelope.subject),
        ("partitionkey", &envelope.partitionkey),
        ("cursor", &envelope.cursor),
        ("correlationid", &envelope.correlationid),
        ("causationid", &envelope.causationid),
        ("traceparent", &envelope.traceparent),
        ("tracestate", &envelope.tracestate),
        ("owner", &envelope.owner),
        ("replyto", &envelope.replyto),
        ("datacontenttype", &envelope.datacontenttype),
    ];
    for (field, value) in texts {
        value.as_deref().map_or(Ok(()), |value| text(field, value))?;
    }
    for (field, value) in [("dataschema", &envelope.dataschema), ("dataref", &envelope.dataref)] {
        value.as_deref().map_or(Ok(()), |value| uri_reference(field, value))?;
    }
    if envelope.priority > 9 {
        return Err(EnvelopeError::new("priority", "must be 0 to 9"));
    }
    extensions(envelope)?;
    data(envelope)
}

fn id(id: &str) -> Result<(), EnvelopeError> {
    let refuse = |reason: &str| Err(EnvelopeError::new("id", reason));
    match id {
        "" => refuse("must not be empty"),
        id if id.len() > MAX_ID_BYTES => refuse("must be at most 128 bytes"),
        id if id.contains('.') => refuse("must not contain a dot"),
        id if id.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            refuse("must not contain spaces or control characters")
        }
        _ => Ok(()),
    }
}

fn text(field: &str, text: &str) -> Result<(), EnvelopeError> {
    if text.is_empty() {
        return Err(EnvelopeError::new(field, "must not be empty"));
    }
    if text.len() > MAX_ATTRIBUTE_BYTES {
        return Err(EnvelopeError::new(field, format!("must be at most {MAX_ATTRIBUTE_BYTES} bytes")));
    }
    // Most are ASCII, where a look at the bytes will do.
    if !text.bytes().all(|b| matches!(b, b' '..=b'~')) && text.chars().any(char::is_control) {
        return Err(EnvelopeError::new(field, "must not contain control characters"));
    }
    Ok(())
}

/// RFC 3986, its characters and its scheme; the authority is not looked into.
fn uri_reference(field: &str, uri: &str) -> Result<(), EnvelopeError> {
    text(field, uri)?;
    let bytes = uri.as_bytes();
    let allowed = |(at, byte): (usize, &u8)| match byte {
        b'%' => bytes.len() > at + 2 && bytes[at + 1..at + 3].iter().all(u8::is_ascii_hexdigit),
        b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'!' | b'$' | b'&' => true,
        b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
        byte => byte.is_ascii_alphanumeric(),
    };
    let first_segment = uri.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme_is_one = first_segment.split_once(':').is_none_or(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    if bytes.iter().enumerate().all(allowed) && scheme_is_one {
        return Ok(());
    }
    Err(EnvelopeError::new(field, "must be a URI reference"))
}

fn extensions(envelope: &Envelope) -> Result<(), EnvelopeError> {
    if envelope.extensions.len() > MAX_EXTENSIONS {
        return Err(EnvelopeError::new("event", format!("has more than {MAX_EXTENSIONS} unknown attributes")));
    }
    for (name, value) in &envelope.extensions {
        if STANDARD.contains(&name.as_str()) || EXTENSIONS.contains(&name.as_str()) {
            return Err(EnvelopeError::new(name, "is an attribute of its own"));
        }
        let valid = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if name.is_empty() || name.len() > 64 || !valid {
            return Err(EnvelopeError::new(name, "is no attribute: a name is 1 to 64 of a-z and 0-9"));
        }
        match value {
            Value::String(value) => text(name, value)?,
            Value::Bool(_) => {}
            // CloudEvents has integers of 32 bits.
            Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
            _ => return Err(EnvelopeError::new(name, "must be a string, a boolean or an integer of 32 bits")),
        }
    }
    Ok(())
}

fn data(envelope: &Envelope) -> Result<(), EnvelopeError> {
    let (field, fits) = match &envelope.data {
        None => return Ok(()),
        Some(Data::Binary(bytes)) => ("data_base64", bytes.len() <= Envelope::MAX_DATA_BYTES),
        Some(Data::Json(value)) => {
            ("data", at_most(value) <= Envelope::MAX_DATA_BYTES || is_within(value, Envelope::MAX_DATA_BYTES))
        }
    };
    if fits { Ok(()) } else { Err(EnvelopeError::new(field, TOO_LARGE)) }
}

/// Bytes that a value's JSON doesn't have more of, found without writing it.
fn at_most(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        // The longest number of 64 bits, with its sign, its point and its exponent.
        Value::Number(_) => 32,
        Value::String(text) => text_at_most(text),
        Value::Array(values) => values.iter().fold(2, |all, value| all.saturating_add(at_most(value) + 1)),
        Value::Object(members) => members
            .iter()
            .fold(2, |all: usize, (name, value)| all.saturating_add(text_at_most(name) + at_most(value) + 2)),
    }
}

/// A byte is escaped as six at most.
fn text_at_most(text: &str) -> usize {
    6 * text.len() + 2
}

fn is_within(value: &Value, bytes: usize) -> bool {
    serde_json::to_writer(Room { left: bytes }, value).is_ok()
}

/// Counts what is written, and stops the writer when there is too much.
struct Room {
    left: usize,
}

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_json_of_a_value_is_never_longer_than_the_bound(value in value()) {
            prop_assert!(value.to_string().len() <= at_most(&value));
        }
    }
}
