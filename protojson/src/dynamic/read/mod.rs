//! JSON into messages, strictly, with every fault found named by its path.
//!
//! One pass over the text by the descriptor. Unknown members, members given twice, two members of a oneof, nulls in
//! arrays, numbers out of range or not exact: each is a violation, and reading goes on to find the next. Text that isn't
//! JSON ends it at once. Nesting deeper than [`DEPTH`] is refused before anything is built.

mod any;
mod node;
mod number;
mod path;

use std::cell::RefCell;

use node::{Node, Shape};
use path::Path;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::DeserializeSeed as _;

use super::text;
use crate::{DEPTH, Fault, Violation};

/// Reads a whole message.
///
/// # Errors
/// As [`Fault`] has them.
pub fn message(descriptor: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    let kind = Kind::Message(descriptor.clone());
    match read(Shape::One(&kind), json)? {
        Some(Value::Message(message)) => Ok(message),
        _ => Err(fault("", text::expected(&kind))),
    }
}

/// Reads what belongs into a field; none for null.
///
/// # Errors
/// As [`Fault`] has them; paths start below the field.
pub fn field(field: &FieldDescriptor, json: &[u8]) -> Result<Option<Value>, Fault> {
    let kind = field.kind();
    read(Shape::of(field, &kind), json)
}

fn read(shape: Shape<'_>, json: &[u8]) -> Result<Option<Value>, Fault> {
    if nests_too_deep(json) {
        return Err(Fault::Syntax(format!("nested deeper than {DEPTH}")));
    }
    let violations = RefCell::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let node = Node { shape, element: false, path: &Path::Root, violations: &violations };
    let value = node.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let violations = violations.into_inner();
    match value {
        _ if !violations.is_empty() => Err(Fault::Violations(violations)),
        Ok(value) => Ok(value),
        Err(error) => Err(Fault::Syntax(error.to_string())),
    }
}

fn fault(field: &str, reason: String) -> Fault {
    Fault::Violations(vec![Violation { field: field.to_owned(), reason }])
}

/// Counts brackets outside strings; whether the text is JSON at all is not asked.
fn nests_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_strings_only() {
        assert!(!nests_too_deep("[".repeat(DEPTH).as_bytes()));
        assert!(nests_too_deep("[".repeat(DEPTH + 1).as_bytes()));
        let text = format!(r#"{{"a": "{}\"{}"}}"#, "[".repeat(100), "{".repeat(100));
        assert!(!nests_too_deep(text.as_bytes()));
        assert!(!nests_too_deep("[]".repeat(100).as_bytes()));
    }
}
