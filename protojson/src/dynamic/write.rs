//! Messages as proto3 JSON: lowerCamel names, 64-bit integers as strings, defaults written
//! (<https://protobuf.dev/programming-guides/json/>).

use std::io;

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, SerializeOptions, Value};
use serde::{Serialize, Serializer};

use super::FieldPath;
use crate::{SIZE, wire::DECODED};

/// Appends a message.
///
/// # Errors
/// A value that JSON has no form for, such as a timestamp in the year 10000.
pub fn write_message(message: &DynamicMessage, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    check(message, 0)?;
    message.serialize_with_options(&mut serde_json::Serializer::new(Bounded { room: SIZE, buffer }), &options())
}

/// Appends one field of a message; null where it is not set and has no default.
///
/// # Errors
/// As [`write_message`].
pub fn write_field(message: &DynamicMessage, path: &FieldPath, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let value = path.get(message);
    value.as_deref().map_or(Ok(()), |value| check_value(value, 0))?;
    let kind = path.leaf().kind();
    let node = value.as_ref().map(|value| Node(value, &kind));
    node.serialize(&mut serde_json::Serializer::new(Bounded { room: SIZE, buffer }))
}

fn options() -> SerializeOptions {
    SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(true)
}

/// A buffer that takes but so much more.
struct Bounded<'a> {
    buffer: &'a mut Vec<u8>,
    room: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let too_large = || io::Error::other(format!("larger than {SIZE} bytes as JSON"));
        self.room = self.room.checked_sub(bytes.len()).ok_or_else(too_large)?;
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value with its kind. prost-reflect writes whole messages only; this writes what stands in a field.
struct Node<'a>(&'a Value, &'a Kind);

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0, self.1) {
            (Value::Message(message), _) => message.serialize_with_options(serializer, &options()),
            (Value::List(values), kind) => serializer.collect_seq(values.iter().map(|value| Node(value, kind))),
            (Value::Map(entries), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                serializer.collect_map(entries.iter().map(|(key, value)| (key_text(key), Node(value, &kind))))
            }
            (Value::Map(_), _) => Err(serde::ser::Error::custom("a map of no kind")),
            (Value::EnumNumber(number), Kind::Enum(descriptor)) => match descriptor.get_value(*number) {
                _ if descriptor.full_name() == "google.protobuf.NullValue" => serializer.serialize_none(),
                Some(value) => serializer.serialize_str(value.name()),
                None => serializer.serialize_i32(*number),
            },
            (Value::EnumNumber(number), _) => serializer.serialize_i32(*number),
            (Value::Bool(value), _) => serializer.serialize_bool(*value),
            (Value::I32(value), _) => serializer.serialize_i32(*value),
            (Value::U32(value), _) => serializer.serialize_u32(*value),
            (Value::I64(value), _) => serializer.collect_str(value),
            (Value::U64(value), _) => serializer.collect_str(value),
            (Value::F32(value), _) if value.is_finite() => serializer.serialize_f32(*value),
            (Value::F32(value), _) => serializer.serialize_str(not_finite(f64::from(*value))),
            (Value::F64(value), _) if value.is_finite() => serializer.serialize_f64(*value),
            (Value::F64(value), _) => serializer.serialize_str(not_finite(*value)),
            (Value::String(value), _) => serializer.serialize_str(value),
            (Value::Bytes(value), _) => serializer.collect_str(&Base64Display::new(value, &STANDARD)),
        }
    }
}

/// What prost-reflect shows all the same: timestamps and durations whose nanos are out of bounds, or of another sign; and
/// messages in an `Any`, in an `Any`, and so on, until the stack is used up.
fn check(message: &DynamicMessage, nesting: usize) -> Result<(), serde_json::Error> {
    if nesting > DECODED {
        return Err(serde::ser::Error::custom("nested too deep"));
    }
    let part = |number| {
        message.get_field_by_number(number).and_then(|part| part.as_i64().or(part.as_i32().map(i64::from))).unwrap_or(0)
    };
    let is_valid = match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => (0..1_000_000_000).contains(&part(2)),
        "google.protobuf.Duration" => {
            part(2).abs() < 1_000_000_000 && (part(1) == 0 || part(2) == 0 || (part(1) < 0) == (part(2) < 0))
        }
        // Of one that holds nothing that is known here the reason is given when it is shown.
        "google.protobuf.Any" => return content(message).map_or(Ok(()), |content| check(&content, nesting + 1)),
        _ => return message.fields().try_for_each(|(_, value)| check_value(value, nesting + 1)),
    };
    if is_valid { Ok(()) } else { Err(serde::ser::Error::custom("nanos out of range, or not of the seconds' sign")) }
}

fn check_value(value: &Value, nesting: usize) -> Result<(), serde_json::Error> {
    match value {
        Value::Message(message) => check(message, nesting),
        Value::List(values) => values.iter().try_for_each(|value| check_value(value, nesting)),
        Value::Map(entries) => entries.values().try_for_each(|value| check_value(value, nesting)),
        _ => Ok(()),
    }
}

/// The message in a `google.protobuf.Any`.
fn content(any: &DynamicMessage) -> Option<DynamicMessage> {
    let (type_url, encoded) = (any.get_field_by_number(1)?, any.get_field_by_number(2)?);
    let (_, name) = type_url.as_str()?.rsplit_once('/')?;
    let descriptor = any.descriptor().parent_pool().get_message_by_name(name)?;
    DynamicMessage::decode(descriptor, encoded.as_bytes()?.clone()).ok()
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
