//! A message as JSON in one of the many ways that the same message may be written.

use base64::Engine as _;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

use super::dice::Dice;

pub fn spell(message: &DynamicMessage, dice: &mut Dice<'_>) -> Vec<u8> {
    let mut json = Vec::new();
    self::message(message, dice, &mut json);
    json
}

fn message(message: &DynamicMessage, dice: &mut Dice<'_>, json: &mut Vec<u8>) {
    let descriptor = message.descriptor();
    if descriptor.full_name().starts_with("google.protobuf.") {
        protojson::dynamic::write_message(message, json).unwrap();
        return;
    }
    let mut fields: Vec<_> = descriptor.fields().collect();
    if dice.happens(100) {
        let middle = dice.below(fields.len());
        fields.rotate_left(middle);
    }
    let mut members = Vec::new();
    for field in fields {
        let mut member = Vec::new();
        let name = if dice.happens(80) { field.name() } else { field.json_name() };
        string(name, false, dice, &mut member);
        space(dice, &mut member);
        member.push(b':');
        space(dice, &mut member);
        if !message.has_field(&field) {
            // What isn't set may be null, where null is no value.
            let kind = field.kind();
            let takes_null = matches!(&kind, Kind::Message(message) if message.full_name() == "google.protobuf.Value")
                || matches!(&kind, Kind::Enum(found) if found.full_name() == "google.protobuf.NullValue");
            if takes_null || !dice.happens(50) {
                continue;
            }
            member.extend_from_slice(b"null");
        } else {
            match (message.get_field(&field).as_ref(), field.kind()) {
                (Value::Map(entries), Kind::Message(entry)) => {
                    let kind = entry.map_entry_value_field().kind();
                    let entries = entries.iter().map(|(key, value)| {
                        let mut entry = Vec::new();
                        let is_text = matches!(key, MapKey::String(_));
                        let key = match Value::from(key.clone()) {
                            Value::String(key) => key,
                            Value::Bool(key) => key.to_string(),
                            Value::I32(key) => key.to_string(),
                            Value::U32(key) => key.to_string(),
                            Value::I64(key) => key.to_string(),
                            Value::U64(key) => key.to_string(),
                            other => panic!("{other:?}"),
                        };
                        string(&key, is_text, dice, &mut entry);
                        entry.push(b':');
                        one(value, &kind, dice, &mut entry);
                        entry
                    });
                    let entries: Vec<_> = entries.collect();
                    join(b'{', &entries, b'}', dice, &mut member);
                }
                (Value::List(values), kind) => {
                    let elements = values.iter().map(|value| {
                        let mut element = Vec::new();
                        one(value, &kind, dice, &mut element);
                        element
                    });
                    let elements: Vec<_> = elements.collect();
                    join(b'[', &elements, b']', dice, &mut member);
                }
                (value, kind) => one(value, &kind, dice, &mut member),
            }
        }
        members.push(member);
    }
    join(b'{', &members, b'}', dice, json);
}

fn join(open: u8, parts: &[Vec<u8>], close: u8, dice: &mut Dice<'_>, json: &mut Vec<u8>) {
    json.push(open);
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        space(dice, json);
        json.extend_from_slice(part);
    }
    space(dice, json);
    json.push(close);
}

fn space(dice: &mut Dice<'_>, json: &mut Vec<u8>) {
    if dice.happens(20) {
        json.extend_from_slice(dice.choose(&[b" ".as_slice(), b"\n\t", b"\r\n  "]));
    }
}

fn one(value: &Value, kind: &Kind, dice: &mut Dice<'_>, json: &mut Vec<u8>) {
    let quote = dice.happens(100);
    let mut put = |text: String, quoted: bool| {
        let text = if quoted { format!("\"{text}\"") } else { text };
        json.extend_from_slice(text.as_bytes());
    };
    match (value, kind) {
        (Value::Bool(value), _) => put(value.to_string(), false),
        (Value::I32(value), _) if *value % 10 == 0 && !quote => put(format!("{}e1", value / 10), false),
        (Value::I32(value), _) => put(value.to_string(), quote),
        (Value::U32(value), _) => put(value.to_string(), quote),
        (Value::I64(value), _) => put(value.to_string(), quote),
        (Value::U64(value), _) => put(value.to_string(), quote),
        (Value::F32(value), _) if value.is_finite() => put(format!("{value:?}"), false),
        (Value::F64(value), _) if value.is_finite() => put(format!("{value:e}"), false),
        (Value::F32(value), _) => put(not_finite(f64::from(*value)).to_owned(), true),
        (Value::F64(value), _) => put(not_finite(*value).to_owned(), true),
        (Value::EnumNumber(_), Kind::Enum(found)) if found.full_name() == "google.protobuf.NullValue" => {
            put("null".to_owned(), false);
        }
        (Value::EnumNumber(number), Kind::Enum(found)) => match found.get_value(*number) {
            Some(value) if quote => put(value.name().to_owned(), true),
            _ => put(number.to_string(), false),
        },
        (Value::String(value), _) => string(value, true, dice, json),
        (Value::Bytes(value), _) => {
            use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
            let engine = dice.choose(&[&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]);
            put(engine.encode(value), true);
        }
        (Value::Message(nested), _) => message(nested, dice, json),
        other => panic!("{other:?}"),
    }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn string(text: &str, may_escape: bool, dice: &mut Dice<'_>, json: &mut Vec<u8>) {
    if !may_escape || !dice.happens(60) {
        json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        return;
    }
    json.push(b'"');
    for unit in text.encode_utf16() {
        json.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
    }
    json.push(b'"');
}
