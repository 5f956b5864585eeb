//! Messages that have a form of their own in JSON.

use super::node::Node;

/// The schema of one, by its full name.
pub fn well_known(name: &str) -> Option<Node> {
    let plain = |name: &str| Node::object().with("type", name);
    let or_null = |name: &str| Node::object().with("type", Node::list([name, "null"]));
    let digits = |pattern: &str, format: &str| {
        or_null("string").with("format", format).with("pattern", pattern).with("examples", Node::list(["1"]))
    };
    Some(match name {
        "google.protobuf.Timestamp" => {
            plain("string").with("format", "date-time").with("examples", Node::list(["2026-01-31T12:00:00Z"]))
        }
        // Not `format: duration`, which is ISO 8601's.
        "google.protobuf.Duration" => plain("string")
            .with("pattern", r"^-?[0-9]+(\.[0-9]{1,9})?s$")
            .with("description", "A duration in seconds.")
            .with("examples", Node::list(["1.5s"])),
        "google.protobuf.FieldMask" => plain("string")
            .with("description", "Names of fields, separated by commas.")
            .with("examples", Node::list(["name"])),
        "google.protobuf.Struct" => plain("object").with("additionalProperties", true),
        "google.protobuf.Value" => Node::object().with("description", "Any JSON value."),
        "google.protobuf.ListValue" => plain("array").with("items", Node::object()),
        "google.protobuf.Empty" => plain("object"),
        "google.protobuf.Any" => plain("object")
            .with("description", "A message, with `@type` as the URL of what it is.")
            .with("properties", Node::object().with("@type", plain("string")))
            .with("required", Node::list(["@type"]))
            .with("additionalProperties", true)
            .with("examples", any_example()),
        "google.protobuf.StringValue" => or_null("string"),
        "google.protobuf.BoolValue" => or_null("boolean"),
        "google.protobuf.BytesValue" => or_null("string").with("format", "byte").with("contentEncoding", "base64"),
        "google.protobuf.Int32Value" => or_null("integer").with("format", "int32"),
        "google.protobuf.UInt32Value" => or_null("integer").with("minimum", 0_u64).with("maximum", u64::from(u32::MAX)),
        "google.protobuf.Int64Value" => digits("^-?[0-9]+$", "int64"),
        "google.protobuf.UInt64Value" => digits("^[0-9]+$", "uint64"),
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => {
            let named = plain("string").with("enum", Node::list(["NaN", "Infinity", "-Infinity"]));
            Node::object().with("anyOf", Node::list([plain("number"), named, plain("null")]))
        }
        _ => return None,
    })
}

fn any_example() -> Node {
    let any = Node::object().with("@type", "type.googleapis.com/google.protobuf.Duration").with("value", "1.5s");
    Node::List(vec![any])
}

/// Whether a message stands in a path or a query as a text.
pub fn is_text(name: &str) -> bool {
    let wrapper = name.starts_with("google.protobuf.") && name.ends_with("Value");
    matches!(name, "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask")
        || wrapper && !matches!(name, "google.protobuf.Value" | "google.protobuf.ListValue")
}
