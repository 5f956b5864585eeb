//! The JSON Schema of the configuration, made from its types: what editors complete and check by.

use std::time::Duration;

use schemars::{JsonSchema as _, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Value, json};

use super::Config;

/// JSON Schema (2020-12) of a configuration file. Wherever a number, a switch or a text of a certain form may stand, so may
/// `${NAME}` and `${NAME:-default}`.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    durations(&mut schema);
    interpolated(&mut schema);
    schema.insert("title".to_owned(), json!("turnpike gateway"));
    schema.to_value()
}

/// Durations are read as they are written, `300ms`, wherever they stand.
fn durations(schema: &mut Schema) {
    if let Some(definition) = schema.pointer_mut(&format!("/$defs/{}", Duration::schema_name())) {
        *definition = json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" });
    }
}

/// Lets a property stand in for a value.
fn interpolated(schema: &mut Schema) {
    // First what it is made of: what is made here is not to be looked at again.
    transform_subschemas(&mut interpolated, schema);
    if let Some(default) = schema.get("default").and_then(duration) {
        schema.insert("default".to_owned(), json!(default));
    }
    let is_scalar = match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number" | "boolean") => true,
        Some("string") => ["pattern", "format", "enum"].iter().any(|key| schema.get(*key).is_some()),
        _ => false,
    };
    if !is_scalar {
        return;
    }
    let mut own = schema.clone().to_value();
    let mut kept = serde_json::Map::new();
    if let Some(members) = own.as_object_mut() {
        for key in ["description", "default", "title"] {
            kept.extend(members.remove(key).map(|value| (key.to_owned(), value)));
        }
    }
    kept.insert("anyOf".to_owned(), json!([own, { "type": "string", "pattern": r"^\$\{.+\}" }]));
    *schema = kept.into();
}

/// A default duration, as it would be written.
fn duration(default: &Value) -> Option<String> {
    let (seconds, nanos) = (default.get("secs")?.as_u64()?, default.get("nanos")?.as_u64()?);
    Some(if nanos == 0 { format!("{seconds}s") } else { format!("{}ms", seconds * 1_000 + nanos / 1_000_000) })
}
