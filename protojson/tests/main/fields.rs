//! What holds of a path to one field, for any schema and any message; the dynamic path is the judge again.

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use protojson::{
    Message, Schema,
    dynamic::{self, FieldPath},
};

use super::{dice::Dice, properties::Count, properties::meaning, schemas};

/// Dotted names of all fields down to some depth.
fn names(message: &MessageDescriptor, prefix: &str, depth: usize, found: &mut Vec<String>) {
    for field in message.fields() {
        let name = format!("{prefix}{}", field.name());
        if let Kind::Message(nested) = field.kind()
            && depth > 0
            && !field.is_list()
            && !field.is_map()
        {
            names(&nested, &format!("{name}."), depth - 1, found);
        }
        found.push(name);
    }
}

fn field_json(message: &DynamicMessage, field: &FieldPath) -> serde_json::Value {
    let mut json = Vec::new();
    dynamic::write_field(message, field, &mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

pub fn is_addressed_alike(bytes: &[u8], count: &mut Count) {
    let mut dice = Dice::new(bytes);
    let pool = schemas::pool(&mut dice);
    let message = Schema::new(&pool).message("r.M0").unwrap();
    let mut all = Vec::new();
    names(message.descriptor(), "", 2, &mut all);
    let Some(name) = all.get(dice.below(all.len())) else { return };
    let field = FieldPath::resolve(message.descriptor(), name);
    let path = message.path(name);
    assert_eq!(path.is_some(), field.is_some(), "{name}");
    if let (Some(path), Some(field)) = (path, field) {
        count.tried += 1;
        let value = schemas::random(message.descriptor(), 3, &mut dice);
        let other = schemas::random(message.descriptor(), 3, &mut dice);
        // As it is read: in the one that was made a default may be set that is not written.
        let value = DynamicMessage::decode(message.descriptor().clone(), value.encode_to_vec().as_slice()).unwrap();
        compare(&message, &path, &field, &value, &other);
    }
}

fn compare(
    message: &Message,
    path: &protojson::Path,
    field: &FieldPath,
    value: &DynamicMessage,
    other: &DynamicMessage,
) {
    let (wire, descriptor) = (value.encode_to_vec(), message.descriptor());
    assert_eq!(path.is_set(&wire), field.is_set(value), "{path}");

    let mut json = b"before".to_vec();
    path.write(&wire, &mut json).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&json[6..]).unwrap();
    assert_eq!(shown, field_json(value, field), "{path}");

    // Given as JSON, it is what it was.
    let mut read = Vec::new();
    path.read(&json[6..], &mut read).unwrap();
    let mut expected = DynamicMessage::new(descriptor.clone());
    if let Some(value) = dynamic::read::field(field.leaf(), &json[6..]).unwrap() {
        field.set(&mut expected, value).unwrap();
    }
    assert_eq!(meaning(descriptor, &read), meaning(descriptor, &expected.encode_to_vec()), "{path}: {shown}");

    // Given as text, over what is there; only field masks merge.
    let Some(text) = path.text(&other.encode_to_vec()) else { return };
    let mut expected = value.clone();
    let mut wire = wire;
    let set = field.set_text(&mut expected, &text);
    assert_eq!(path.append(&mut wire, &text), set, "{path}: {text}");
    let is_mask = matches!(field.leaf().kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.FieldMask");
    let merges = is_mask && field.is_set(value);
    if set.is_ok() && !merges {
        assert_eq!(meaning(descriptor, &wire), meaning(descriptor, &expected.encode_to_vec()), "{path}: {text}");
    }
}
