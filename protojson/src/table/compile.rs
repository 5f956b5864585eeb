//! Tables from descriptors.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, MessageDescriptor};

use super::{Enum, Field, Form, Kind, Message, Shape, Tables};
use crate::{
    dynamic::{FieldPath, text, write_field},
    wire::{Tag, WireType},
};

/// More oneofs, or fields, than a message of the tables has.
const ONEOFS: usize = 64;
const FIELDS: usize = 1024;

/// Places by full name.
struct Places {
    messages: HashMap<String, usize>,
    enums: HashMap<String, usize>,
}

impl Tables {
    pub fn new(pool: &DescriptorPool) -> Self {
        let messages: Vec<_> = pool.all_messages().collect();
        let enums: Vec<_> = pool.all_enums().collect();
        let places = Places {
            messages: (0..).zip(&messages).map(|(place, message)| (message.full_name().to_owned(), place)).collect(),
            enums: (0..).zip(&enums).map(|(place, found)| (found.full_name().to_owned(), place)).collect(),
        };
        Self {
            messages: messages.iter().map(|descriptor| message(descriptor, &places)).collect(),
            enums: enums.iter().map(enumeration).collect(),
            places: places.messages,
        }
    }
}

fn message(descriptor: &MessageDescriptor, places: &Places) -> Message {
    let fields: Box<[_]> = descriptor.fields().map(|found| field(descriptor, &found, places)).collect();
    let mut names = HashMap::new();
    // A name that is one field's JSON name and another's original one means the first.
    for (place, found) in (0..).zip(descriptor.fields()) {
        names.insert(found.json_name().as_bytes().into(), place);
    }
    for (place, found) in (0..).zip(descriptor.fields()) {
        names.entry(found.name().as_bytes().into()).or_insert(place);
    }
    let mut names: Box<[(Box<[u8]>, u16)]> = names.into_iter().collect();
    names.sort_unstable();
    let is_extensible = descriptor.extension_ranges().len() > 0;
    Message { form: form(descriptor, &fields), fields, names, is_extensible }
}

fn form(descriptor: &MessageDescriptor, fields: &[Field]) -> Form {
    let form = match descriptor.full_name() {
        _ if fields.len() > FIELDS || descriptor.oneofs().len() > ONEOFS => Form::Other,
        "google.protobuf.Empty" => Form::Empty,
        "google.protobuf.Timestamp" => Form::Timestamp,
        "google.protobuf.Duration" => Form::Duration,
        "google.protobuf.FieldMask" => Form::FieldMask,
        "google.protobuf.Struct" => Form::Struct,
        "google.protobuf.ListValue" => Form::ListValue,
        "google.protobuf.Value" => Form::Value,
        "google.protobuf.Any" => Form::Any,
        _ if text::wrapped(descriptor).is_some() => Form::Wrapper,
        _ => Form::Plain,
    };
    // A pool may hold messages of these names that are not what they should be.
    let is = |expected: &[(u32, Shape, Option<Kind>)]| {
        let known = |(field, (number, shape, kind)): (&Field, &(u32, Shape, Option<Kind>))| {
            field.number == *number && field.shape == *shape && kind.is_none_or(|kind| kind == field.kind)
        };
        fields.len() == expected.len() && fields.iter().zip(expected).all(known)
    };
    let is_known = match form {
        Form::Plain | Form::Other => true,
        Form::Empty => is(&[]),
        Form::Wrapper => is(&[(1, Shape::One, None)]) && !fields.iter().any(|field| field.has_presence),
        Form::Timestamp | Form::Duration => {
            is(&[(1, Shape::One, Some(Kind::Int64)), (2, Shape::One, Some(Kind::Int32))])
        }
        Form::Any => is(&[(1, Shape::One, Some(Kind::String)), (2, Shape::One, Some(Kind::Bytes))]),
        Form::FieldMask => is(&[(1, Shape::List, Some(Kind::String))]),
        Form::Struct => is(&[(1, Shape::Map, None)]),
        Form::ListValue => is(&[(1, Shape::List, None)]),
        Form::Value => is(&[
            (1, Shape::One, None),
            (2, Shape::One, Some(Kind::Double)),
            (3, Shape::One, Some(Kind::String)),
            (4, Shape::One, Some(Kind::Bool)),
            (5, Shape::One, None),
            (6, Shape::One, None),
        ]),
    };
    if is_known { form } else { Form::Other }
}

fn field(message: &MessageDescriptor, descriptor: &FieldDescriptor, places: &Places) -> Field {
    let number = descriptor.number();
    let kind = kind(descriptor, places);
    let shape = match () {
        () if descriptor.is_map() => Shape::Map,
        () if descriptor.is_list() => Shape::List,
        () => Shape::One,
    };
    let oneof = descriptor.containing_oneof().filter(|oneof| oneof.fields().len() > 1);
    let name = format!(",{}:", serde_json::Value::from(descriptor.json_name())).into_bytes();
    let mut absent = Vec::new();
    if !descriptor.supports_presence()
        && let Some(path) = FieldPath::resolve(message, descriptor.name())
        && write_field(&DynamicMessage::new(message.clone()), &path, &mut absent).is_ok()
    {
        absent.splice(0..0, name.iter().copied());
    }
    Field {
        number,
        shape,
        kind,
        tag: Tag::new(number, kind.wire_type()),
        packed: descriptor.is_packed().then(|| Tag::new(number, WireType::Bytes)),
        has_presence: descriptor.supports_presence(),
        oneof: oneof
            .and_then(|oneof| message.oneofs().position(|other| other == oneof))
            .and_then(|at| at.try_into().ok()),
        name: name.into(),
        absent: absent.into(),
    }
}

fn kind(descriptor: &FieldDescriptor, places: &Places) -> Kind {
    use prost_reflect::Kind as Described;
    match descriptor.kind() {
        _ if descriptor.is_group() => Kind::Group,
        Described::Int32 => Kind::Int32,
        Described::Int64 => Kind::Int64,
        Described::Uint32 => Kind::Uint32,
        Described::Uint64 => Kind::Uint64,
        Described::Sint32 => Kind::Sint32,
        Described::Sint64 => Kind::Sint64,
        Described::Fixed32 => Kind::Fixed32,
        Described::Fixed64 => Kind::Fixed64,
        Described::Sfixed32 => Kind::Sfixed32,
        Described::Sfixed64 => Kind::Sfixed64,
        Described::Float => Kind::Float,
        Described::Double => Kind::Double,
        Described::Bool => Kind::Bool,
        Described::String => Kind::String,
        Described::Bytes => Kind::Bytes,
        Described::Enum(found) => places.enums.get(found.full_name()).map_or(Kind::Group, |place| Kind::Enum(*place)),
        Described::Message(found) => {
            places.messages.get(found.full_name()).map_or(Kind::Group, |place| Kind::Message(*place))
        }
    }
}

impl Kind {
    pub fn wire_type(self) -> WireType {
        match self {
            Self::Fixed64 | Self::Sfixed64 | Self::Double => WireType::Fixed64,
            Self::Fixed32 | Self::Sfixed32 | Self::Float => WireType::Fixed32,
            Self::String | Self::Bytes | Self::Message(_) | Self::Group => WireType::Bytes,
            _ => WireType::Varint,
        }
    }
}

fn enumeration(descriptor: &EnumDescriptor) -> Enum {
    let mut names: Box<[(Box<[u8]>, i32)]> =
        descriptor.values().map(|value| (value.name().as_bytes().into(), value.number())).collect();
    names.sort_unstable();
    let mut shown: Vec<(i32, Box<[u8]>)> = Vec::new();
    for value in descriptor.values() {
        // Of several names for a number the one that the dynamic path shows.
        let name = descriptor.get_value(value.number()).unwrap_or(value);
        shown.push((name.number(), format!("\"{}\"", name.name()).into_bytes().into()));
    }
    shown.sort_unstable();
    shown.dedup();
    Enum { is_null: descriptor.full_name() == "google.protobuf.NullValue", names, shown: shown.into() }
}
