//! The published JSON Schema: current, and true of every configuration that is shown to anybody.

use std::{collections::BTreeMap, fs, path::PathBuf};

use gateway::{Config, Properties};
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What of a value a schema does not allow, a line each. As much of JSON Schema as ours uses; a word it doesn't know fails
/// the test.
fn faults(schema: &Value, value: &Value, whole: &Value, path: &str) -> Vec<String> {
    let Some(members) = schema.as_object() else {
        return if schema == &json!(true) { Vec::new() } else { vec![format!("{path}: nothing may stand here")] };
    };
    let fault = |what: &str| vec![format!("{path}: {what}: {value}")];
    let mut found = Vec::new();
    for (word, says) in members {
        found.extend(match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" | "examples" => Vec::new(),
            "$ref" => {
                let place = says.as_str().unwrap().trim_start_matches('#');
                faults(whole.pointer(place).unwrap(), value, whole, path)
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("{other}"),
                };
                let fits = says.as_array().map_or_else(|| is(says), |names| names.iter().any(is));
                if fits { Vec::new() } else { fault(&format!("not of type {says}")) }
            }
            "anyOf" | "oneOf" => {
                let all: Vec<_> = says.as_array().unwrap().iter().map(|one| faults(one, value, whole, path)).collect();
                let fit = all.iter().any(Vec::is_empty);
                if fit { Vec::new() } else { all.into_iter().flatten().collect() }
            }
            "allOf" => says.as_array().unwrap().iter().flat_map(|one| faults(one, value, whole, path)).collect(),
            "enum" if !says.as_array().unwrap().contains(value) => fault("not one of those"),
            "const" if says != value => fault(&format!("not {says}")),
            "required" if value.is_object() => says
                .as_array()
                .unwrap()
                .iter()
                .filter(|name| value.get(name.as_str().unwrap()).is_none())
                .flat_map(|name| fault(&format!("lacks {name}")))
                .collect(),
            "properties" if value.is_object() => says
                .as_object()
                .unwrap()
                .iter()
                .filter_map(|(name, schema)| value.get(name).map(|value| (name, schema, value)))
                .flat_map(|(name, schema, value)| faults(schema, value, whole, &format!("{path}.{name}")))
                .collect(),
            "additionalProperties" if value.is_object() => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = value
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                others.flat_map(|(name, value)| faults(says, value, whole, &format!("{path}.{name}"))).collect()
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.flat_map(|(at, value)| faults(says, value, whole, &format!("{path}[{at}]"))).collect()
            }
            "minimum" if value.as_f64().is_some_and(|value| value < says.as_f64().unwrap()) => fault("too small"),
            "maximum" if value.as_f64().is_some_and(|value| value > says.as_f64().unwrap()) => fault("too large"),
            "pattern" if value.as_str().is_some_and(|text| says == r"^\$\{.+\}" && !text.starts_with("${")) => {
                fault("no property")
            }
            "pattern" if value.is_string() && says == "^[0-9]+(ms|s|m|h)$" => {
                let text = value.as_str().unwrap();
                let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
                if unit.len() < text.len() && ["ms", "s", "m", "h"].contains(&unit) {
                    Vec::new()
                } else {
                    fault("no duration")
                }
            }
            "enum"
            | "const"
            | "required"
            | "properties"
            | "additionalProperties"
            | "minimum"
            | "maximum"
            | "pattern" => Vec::new(),
            other => panic!("a word of JSON Schema that this test doesn't know: {other}"),
        });
    }
    found
}

#[track_caller]
fn fits(text: &str) {
    // Properties stand in for nothing here: what they have for a default is of the right type.
    let options = serde_saphyr::options! {}.with_properties(Properties::new());
    let value: Value = serde_saphyr::from_str_with_options(text, options).unwrap();
    let schema = gateway::schema();
    let faults = faults(&schema, &value, &schema, "");
    assert!(faults.is_empty(), "{text}\n{}", faults.join("\n"));
}

fn does_not_fit(text: &str) -> bool {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let schema = gateway::schema();
    !faults(&schema, &value, &schema, "").is_empty()
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let committed = fs::read_to_string(root().join("deploy/gateway.schema.json")).unwrap();
    let current = serde_json::to_string_pretty(&gateway::schema()).unwrap();
    if committed.trim_end() != current {
        let made = concat!(env!("CARGO_TARGET_TMPDIR"), "/gateway.schema.json");
        fs::write(made, format!("{current}\n")).unwrap();
        panic!("deploy/gateway.schema.json is not current: cp {made} deploy/");
    }
}

#[test]
fn the_shops_configuration_fits() {
    fits(&fs::read_to_string(root().join("deploy/gateway.yaml")).unwrap());
}

#[test]
fn every_whole_example_and_every_route_of_the_guide_fits() {
    let guide = fs::read_to_string(root().join("docs/gateway.md")).unwrap();
    let examples: Vec<_> = guide.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 2);
    for example in examples {
        let first = example.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        let listeners = if example.contains("listeners:") { "" } else { "listeners: []\n" };
        // What needs somebody's descriptors or certificates is tried where they are.
        let is_whole =
            example.contains("listeners:") && !["descriptors:", ".pem"].iter().any(|word| example.contains(word));
        if is_whole {
            let checked = gateway::check(example, &Properties::new(), None, &BTreeMap::new());
            checked.unwrap_or_else(|errors| panic!("{example}\n{errors:?}"));
        }
        match first {
            // Routes alone, as they stand under `routes:`.
            first if first.starts_with("- ") => fits(&format!("{listeners}routes:\n{example}")),
            _ => fits(&format!("{listeners}{example}")),
        }
    }
}

#[test]
fn what_the_types_refuse_the_schema_refuses() {
    for wrong in [
        "{}",
        "{listeners: [{address: '127.0.0.1:0', adress: x}]}",
        "{listeners: [], timeout: 5}",
        "{listeners: [], timeout: 5 s}",
        "{listeners: [], limits: {uri: 5}}",
        "{listeners: [], routes: [{match: {path: /, headers: {a: 5}}}]}",
        "{listeners: [], routes: [{match: {path: /, headers: {a: {regex: b}}}}]}",
        "{listeners: [], routes: [{match: {path: /}, proxy: {weights: [{upstream: a}]}}]}",
        "{listeners: [], routes: [{match: {path: /}, authenticate: sometimes}]}",
        "{listeners: [], rate_limit: {requests: many, per: 1m, key: route}}",
    ] {
        assert!(Config::parse(wrong, &Properties::new()).is_err(), "{wrong}");
        assert!(does_not_fit(wrong), "{wrong}");
    }
    for right in [
        "{listeners: []}",
        "{listeners: [], rate_limit: {requests: 1, per: 1m, key: route}}",
        "{listeners: [], rate_limit: [{requests: 1, per: 1m, key: route}]}",
        "{listeners: [], routes: [{match: {path: /, method: GET, headers: {a: '', b: {present: false}}}, proxy: a}]}",
    ] {
        assert!(Config::parse(right, &Properties::new()).is_ok(), "{right}");
        assert!(!does_not_fit(right), "{right}");
    }
}
