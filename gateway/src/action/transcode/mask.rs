//! The field mask of a PATCH that brings none: what its JSON says, and no more (<https://google.aip.dev/134>).

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use protojson::dynamic::named;
use serde_json::Value;

/// Paths of all that a body for a message field says, by original names: `title`, `price.currency`. A list, a map and a
/// well-known type are changed as a whole; so is a message that is null or says nothing. Empty for what is no JSON object.
pub fn paths(field: &FieldDescriptor, json: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    if let (Kind::Message(message), Ok(value)) = (field.kind(), serde_json::from_slice(json)) {
        collect(&message, &value, "", &mut paths);
    }
    paths
}

fn collect(message: &MessageDescriptor, value: &Value, prefix: &str, paths: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let Some(field) = named(message, name) else { continue };
        let path = format!("{prefix}{}", field.name());
        match field.kind() {
            Kind::Message(nested) if has_members(value) && !field.is_list() && !field.is_map() && is_plain(&nested) => {
                collect(&nested, value, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}

fn has_members(value: &Value) -> bool {
    value.as_object().is_some_and(|members| !members.is_empty())
}

fn is_plain(message: &MessageDescriptor) -> bool {
    message.package_name() != "google.protobuf"
}
