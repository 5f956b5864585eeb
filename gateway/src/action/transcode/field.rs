//! The fields that a rule names, found when it loads: what is wrong with a name is said in full.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use protojson::{Message, Path};

/// Messages that JSON, and so a path or a query, writes as one text.
const TEXTS: [&str; 12] = [
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int64Value",
    "google.protobuf.UInt64Value",
    "google.protobuf.Int32Value",
    "google.protobuf.UInt32Value",
    "google.protobuf.BoolValue",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
];

/// A field that a variable of the path fills: one value, which can be given as text.
///
/// # Errors
/// A sentence on what is wrong with the name.
pub fn variable(message: &Message, descriptor: &MessageDescriptor, name: &str) -> Result<Path, String> {
    let leaf = walk(descriptor, name)?;
    let what = if leaf.is_map() {
        "a map"
    } else if leaf.is_list() {
        "repeated"
    } else if !is_text(&leaf.kind()) {
        "a message"
    } else {
        return message.path(name).ok_or_else(|| format!("`{name}` can't be given in a path"));
    };
    Err(format!("`{name}` of {} is {what}, which a path can't hold", descriptor.full_name()))
}

/// A field at the top of a message, for a body.
///
/// # Errors
/// A sentence on what is wrong with the name.
pub fn top(message: &Message, descriptor: &MessageDescriptor, name: &str) -> Result<Path, String> {
    if name.contains('.') {
        return Err(format!("`{name}` must be a field of {} itself", descriptor.full_name()));
    }
    let field = walk(descriptor, name)?;
    message.path(field.name()).ok_or_else(|| format!("`{name}` can't be a body"))
}

fn walk(message: &MessageDescriptor, dotted: &str) -> Result<FieldDescriptor, String> {
    let mut message = message.clone();
    let mut names = dotted.split('.').peekable();
    loop {
        let name = names.next().unwrap_or_default();
        let field = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
        let field = field.ok_or_else(|| format!("{} has no field `{name}`", message.full_name()))?;
        if names.peek().is_none() {
            return Ok(field);
        }
        let what = match field.kind() {
            _ if field.is_map() => "a map",
            _ if field.is_list() => "repeated",
            Kind::Message(_) if is_text(&field.kind()) => "a value, not a message with fields",
            Kind::Message(nested) => {
                message = nested;
                continue;
            }
            _ => "not a message",
        };
        return Err(format!("`{name}` of {} is {what}: nothing in it can be named", message.full_name()));
    }
}

fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => TEXTS.contains(&message.full_name()),
        _ => true,
    }
}
