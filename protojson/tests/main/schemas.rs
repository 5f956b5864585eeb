//! Schemas and messages made at random.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
    prost_types::{
        DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FieldOptions,
        FileDescriptorProto, MessageOptions, OneofDescriptorProto,
        field_descriptor_proto::{Label, Type},
    },
};

use super::dice::Dice;

const KEYS: [Type; 12] = [
    Type::String,
    Type::Int32,
    Type::Int64,
    Type::Uint32,
    Type::Uint64,
    Type::Sint32,
    Type::Sint64,
    Type::Fixed32,
    Type::Fixed64,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Bool,
];

const WELL_KNOWN: [&str; 17] = [
    "Timestamp",
    "Duration",
    "FieldMask",
    "Struct",
    "Value",
    "ListValue",
    "Empty",
    "Any",
    "DoubleValue",
    "FloatValue",
    "Int64Value",
    "UInt64Value",
    "Int32Value",
    "UInt32Value",
    "BoolValue",
    "StringValue",
    "BytesValue",
];

/// A pool with the messages `r.M0`, `r.M1`, … of which the first is the one to use.
pub fn pool(dice: &mut Dice<'_>) -> DescriptorPool {
    let proto3 = !dice.happens(64);
    let count = 1 + dice.below(4);
    let file = FileDescriptorProto {
        name: Some("r.proto".to_owned()),
        package: Some("r".to_owned()),
        syntax: proto3.then(|| "proto3".to_owned()),
        dependency: ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"]
            .map(|name| format!("google/protobuf/{name}.proto"))
            .to_vec(),
        message_type: (0..count).map(|index| message(index, count, proto3, dice)).collect(),
        enum_type: vec![enumeration()],
        ..FileDescriptorProto::default()
    };
    let mut pool = DescriptorPool::global();
    pool.add_file_descriptor_proto(file.clone()).unwrap_or_else(|error| panic!("{error}: {file:?}"));
    pool
}

fn enumeration() -> EnumDescriptorProto {
    let value = |(name, number): (&str, i32)| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        options: None,
    };
    EnumDescriptorProto {
        name: Some("E".to_owned()),
        value: [("ZERO", 0), ("ONE", 1), ("MINUS", -1), ("LARGE", i32::MAX)].map(value).to_vec(),
        ..EnumDescriptorProto::default()
    }
}

fn message(index: usize, count: usize, proto3: bool, dice: &mut Dice<'_>) -> DescriptorProto {
    let name = format!("M{index}");
    let fields = if dice.happens(8) { 60 + dice.below(20) } else { dice.below(10) };
    let mut message = DescriptorProto { name: Some(name.clone()), ..DescriptorProto::default() };
    let mut synthetic = Vec::new();
    if dice.happens(96) {
        message.oneof_decl.push(OneofDescriptorProto { name: Some("choice".to_owned()), options: None });
    }
    let mut number = 0;
    for at in 0..fields {
        number += 1 + i32::try_from(if dice.happens(24) { dice.below(5000) } else { dice.below(3) }).unwrap();
        if (19_000..20_000).contains(&number) {
            number = 20_000;
        }
        let name =
            [format!("f{at}"), format!("some_field_{at}"), format!("X{at}_y"), format!("Ähm{at}").replace("Ä", "a")];
        let mut field = FieldDescriptorProto {
            name: Some(name[dice.below(4)].clone()),
            number: Some(number),
            label: Some(Label::Optional as i32),
            ..FieldDescriptorProto::default()
        };
        if dice.happens(30) {
            map(&mut message, &mut field, at, count, dice);
            message.field.push(field);
            continue;
        }
        set_type(&mut field, count, dice);
        match dice.below(8) {
            0 | 1 => {
                field.label = Some(Label::Repeated as i32);
                let is_packable = !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message);
                if is_packable && dice.happens(100) {
                    let packed = Some(dice.happens(128));
                    field.options = Some(FieldOptions { packed, ..FieldOptions::default() });
                }
            }
            2 if !message.oneof_decl.is_empty() => field.oneof_index = Some(0),
            3 if proto3 => synthetic.push(message.field.len()),
            _ => {}
        }
        message.field.push(field);
    }
    if !message.field.iter().any(|field| field.oneof_index.is_some()) {
        message.oneof_decl.clear();
    }
    for at in synthetic {
        message.field[at].proto3_optional = Some(true);
        message.field[at].oneof_index = i32::try_from(message.oneof_decl.len()).ok();
        message.oneof_decl.push(OneofDescriptorProto { name: Some(format!("_{at}")), options: None });
    }
    // Declared in another order than they are numbered.
    if dice.happens(128) {
        message.field.reverse();
    }
    message
}

fn set_type(field: &mut FieldDescriptorProto, count: usize, dice: &mut Dice<'_>) {
    let (kind, name) = match dice.below(24) {
        at @ 0..12 => (KEYS[at], None),
        12 | 13 => (Type::Double, None),
        14 => (Type::Float, None),
        15 | 16 => (Type::Bytes, None),
        17 => (Type::Enum, Some(".r.E".to_owned())),
        18 if dice.happens(64) => (Type::Enum, Some(".google.protobuf.NullValue".to_owned())),
        18..21 => (Type::Message, Some(format!(".google.protobuf.{}", dice.choose(&WELL_KNOWN)))),
        _ => (Type::Message, Some(format!(".r.M{}", dice.below(count)))),
    };
    field.r#type = Some(kind as i32);
    field.type_name = name;
}

fn map(message: &mut DescriptorProto, field: &mut FieldDescriptorProto, at: usize, count: usize, dice: &mut Dice<'_>) {
    let owner = message.name.clone().unwrap_or_default();
    let name = format!("m{at}");
    let entry = format!("M{at}Entry");
    let part = |name: &str, number| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        ..FieldDescriptorProto::default()
    };
    let (mut key, mut value) = (part("key", 1), part("value", 2));
    key.r#type = Some(dice.choose(&KEYS) as i32);
    set_type(&mut value, count, dice);
    message.nested_type.push(DescriptorProto {
        name: Some(entry.clone()),
        field: vec![key, value],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    });
    field.name = Some(name);
    field.label = Some(Label::Repeated as i32);
    field.r#type = Some(Type::Message as i32);
    field.type_name = Some(format!(".r.{owner}.{entry}"));
}

/// A message of the kind with anything in it that JSON has a form for.
pub fn random(descriptor: &MessageDescriptor, depth: usize, dice: &mut Dice<'_>) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") {
        well_known(&mut message, name, depth, dice);
        return message;
    }
    for field in descriptor.fields() {
        if depth == 0 && field.kind().as_message().is_some() || !dice.happens(150) {
            continue;
        }
        let value = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
                let entries = (0..dice.below(4)).filter_map(|_| {
                    let key: MapKey = one(&key.kind(), depth, dice).into_map_key()?;
                    Some((key, one(&value.kind(), depth.saturating_sub(1), dice)))
                });
                Value::Map(entries.collect())
            }
            kind if field.is_list() => Value::List((0..dice.below(4)).map(|_| one(&kind, depth, dice)).collect()),
            kind => one(&kind, depth, dice),
        };
        set(&mut message, &field, value);
    }
    message
}

fn set(message: &mut DynamicMessage, field: &FieldDescriptor, value: Value) {
    message.try_set_field(field, value).unwrap_or_else(|error| panic!("{}: {error}", field.full_name()));
}

fn one(kind: &Kind, depth: usize, dice: &mut Dice<'_>) -> Value {
    let small = dice.happens(128);
    let word = if small { u64::from(dice.byte() % 4) } else { dice.word() };
    match kind {
        Kind::Bool => Value::Bool(word & 1 == 1),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(word as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(word as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(word as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(word),
        Kind::Float if small => Value::F32(word as f32 / 2.0),
        Kind::Float => Value::F32(f32::from_bits(word as u32)),
        Kind::Double if small => Value::F64(word as f64 / 2.0),
        Kind::Double => Value::F64(f64::from_bits(word)),
        Kind::String => Value::String(text(dice)),
        Kind::Bytes => Value::Bytes((0..dice.below(9)).map(|_| dice.byte()).collect::<Vec<_>>().into()),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => Value::EnumNumber(0),
        Kind::Enum(_) => Value::EnumNumber(dice.choose(&[0, 1, -1, i32::MAX, 5, i32::MIN])),
        Kind::Message(descriptor) => Value::Message(random(descriptor, depth.saturating_sub(1), dice)),
    }
}

pub fn text(dice: &mut Dice<'_>) -> String {
    let pieces =
        ["", "a", "name", "\"", "\\", "\n", "\u{1}", "é", "😀", "/", "\u{7f}", "\u{2028}", "twelve chars", " "];
    (0..dice.below(6)).map(|_| dice.choose(&pieces)).collect()
}

fn well_known(message: &mut DynamicMessage, name: &str, depth: usize, dice: &mut Dice<'_>) {
    let descriptor = prost_reflect::ReflectMessage::descriptor(message);
    let mut by_number = |number, value| {
        if let Some(field) = descriptor.get_field(number) {
            set(message, &field, value);
        }
    };
    let nanos = dice.choose(&[0, 1, 500_000_000, 1_000, 999_999_999]);
    match name {
        "Timestamp" => {
            let span = 253_402_300_799_i64 + 62_135_596_800 + 1;
            by_number(1, Value::I64((dice.word() as i64).rem_euclid(span) - 62_135_596_800));
            by_number(2, Value::I32(nanos));
        }
        "Duration" => {
            let sign = if dice.happens(100) { -1 } else { 1 };
            by_number(1, Value::I64((dice.word() as i64).rem_euclid(315_576_000_001) * i64::from(sign)));
            by_number(2, Value::I32(nanos * sign));
        }
        "FieldMask" => {
            let paths =
                (0..dice.below(4)).map(|_| Value::String(dice.choose(&["a", "some_field", "a.b_c", "a1"]).to_owned()));
            by_number(1, Value::List(paths.collect()));
        }
        "Empty" => {}
        "Any" => {
            let known = [
                "google.protobuf.Timestamp",
                "google.protobuf.Empty",
                "google.protobuf.Int64Value",
                "google.protobuf.Value",
            ];
            let name = if dice.happens(100) { dice.choose(&known) } else { "r.M0" };
            let content = descriptor.parent_pool().get_message_by_name(name).unwrap();
            let content = random(&content, depth.saturating_sub(1), dice).encode_to_vec();
            by_number(1, Value::String(format!("type.googleapis.com/{name}")));
            by_number(2, Value::Bytes(content.into()));
        }
        "Struct" | "ListValue" | "Value" => {
            let json = match name {
                "Struct" => (0..dice.below(4))
                    .map(|_| (text(dice), json(depth, dice)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
                "ListValue" => (0..dice.below(4)).map(|_| json(depth, dice)).collect::<Vec<_>>().into(),
                _ => json(depth, dice),
            };
            *message = DynamicMessage::deserialize(descriptor, json).unwrap();
        }
        wrapper => {
            let kind = descriptor.get_field(1).unwrap().kind();
            let value = one(&kind, depth, dice);
            // The dynamic path shows a wrapped number that is none as null.
            let is_finite = match value {
                Value::F32(value) => value.is_finite(),
                Value::F64(value) => value.is_finite(),
                _ => true,
            };
            assert!(wrapper.ends_with("Value"), "{wrapper}");
            if is_finite {
                by_number(1, value);
            }
        }
    }
}

fn json(depth: usize, dice: &mut Dice<'_>) -> serde_json::Value {
    match dice.below(if depth == 0 { 4 } else { 6 }) {
        0 => serde_json::Value::Null,
        1 => dice.happens(128).into(),
        2 => (f64::from(dice.word() as i32) / 4.0).into(),
        3 => text(dice).into(),
        4 => (0..dice.below(4)).map(|_| json(depth - 1, dice)).collect::<Vec<_>>().into(),
        _ => (0..dice.below(4)).map(|_| (text(dice), json(depth - 1, dice))).collect::<serde_json::Map<_, _>>().into(),
    }
}
