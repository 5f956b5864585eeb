//! One value of a JSON text on its way into a message.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::de::{
    DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{Error as ScalarError, MapAccessDeserializer, SeqAccessDeserializer},
};

use super::{
    super::{field, text},
    number::Number,
    path::Path,
};
use crate::Violation;

/// How many violations are named; the others are the same mistake most of the time.
const VIOLATIONS: usize = 100;

/// What a value is to become.
#[derive(Clone, Copy)]
pub enum Shape<'a> {
    One(&'a Kind),
    List(&'a Kind),
    /// The map's entry message.
    Map(&'a MessageDescriptor),
}

impl<'a> Shape<'a> {
    pub fn of(field: &FieldDescriptor, kind: &'a Kind) -> Self {
        match kind {
            Kind::Message(entry) if field.is_map() => Self::Map(entry),
            kind if field.is_list() => Self::List(kind),
            kind => Self::One(kind),
        }
    }
}

/// One value of the text, with what it is to become. Yields none for null and for what is at fault.
pub struct Node<'a> {
    pub shape: Shape<'a>,
    /// Of an array or a map, where null is not the same as absent.
    pub element: bool,
    pub path: &'a Path<'a>,
    /// What was found so far.
    pub violations: &'a RefCell<Vec<Violation>>,
}

impl Node<'_> {
    pub(super) fn violation(&self, reason: impl Into<String>) -> Option<Value> {
        let mut violations = self.violations.borrow_mut();
        if violations.len() < VIOLATIONS {
            violations.push(Violation { field: self.path.to_string(), reason: reason.into() });
        }
        None
    }

    fn unexpected(&self) -> Option<Value> {
        self.violation(match self.shape {
            Shape::One(kind) => text::expected(kind),
            Shape::List(_) => "must be an array".to_owned(),
            Shape::Map(_) => "must be an object".to_owned(),
        })
    }

    fn scalar(&self, convert: impl FnOnce(&Kind) -> Result<Value, String>) -> Option<Value> {
        let Shape::One(kind) = self.shape else { return self.unexpected() };
        let converted = match kind {
            Kind::Message(descriptor) => match text::wrapped(descriptor) {
                Some(inner) => convert(&inner).and_then(|value| text::wrap(descriptor, value)).map(Value::Message),
                None => convert(kind),
            },
            kind => convert(kind),
        };
        converted.map_or_else(|reason| self.violation(reason), Some)
    }

    fn number(&self, number: Number) -> Option<Value> {
        self.scalar(|kind| match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number.whole(kind).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number.whole(kind).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => number.whole(kind).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => number.whole(kind).map(Value::U64),
            Kind::Float => text::narrow(number.float()).map(Value::F32),
            Kind::Double => Ok(Value::F64(number.float())),
            Kind::Enum(_) => number.whole(kind).map(Value::EnumNumber),
            Kind::Message(descriptor) if is_any_json(descriptor) => dynamic(descriptor, number.float()),
            kind => Err(text::expected(kind)),
        })
    }

    pub(super) fn fields<'de, A: MapAccess<'de>>(
        &self,
        descriptor: &MessageDescriptor,
        mut map: A,
    ) -> Result<Option<Value>, A::Error> {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen = Vec::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let path = Path::Field(self.path, &key);
            let Some(field) = field::named(descriptor, &key) else {
                self.at(&path).violation("is not a known field");
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&field.number()) {
                self.at(&path).violation("is given twice");
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            seen.push(field.number());
            let kind = field.kind();
            let node = Node { shape: Shape::of(&field, &kind), element: false, ..self.at(&path) };
            if let Some(value) = map.next_value_seed(node)? {
                if let Some(other) = field::rival(&message, &field) {
                    self.at(&path).violation(format!("can't be given beside `{}`", other.json_name()));
                } else if message.try_set_field(&field, value).is_err() {
                    self.at(&path).violation("is of another kind");
                }
            }
        }
        Ok(Some(Value::Message(message)))
    }

    fn entries<'de, A: MapAccess<'de>>(
        &self,
        entry: &MessageDescriptor,
        mut map: A,
    ) -> Result<Option<Value>, A::Error> {
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut entries = HashMap::<MapKey, Value>::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let path = Path::Key(self.path, &key);
            let node = Node { shape: Shape::One(&value_kind), element: true, ..self.at(&path) };
            let value = map.next_value_seed(node)?;
            match text::parse(&key_kind, &key).map(Value::into_map_key) {
                Ok(Some(map_key)) if entries.contains_key(&map_key) => _ = self.at(&path).violation("is given twice"),
                Ok(Some(map_key)) => _ = value.and_then(|value| entries.insert(map_key, value)),
                Ok(None) => _ = self.at(&path).violation("can't be a key"),
                Err(reason) => _ = self.at(&path).violation(format!("as a key {reason}")),
            }
        }
        Ok(Some(Value::Map(entries)))
    }

    pub(super) fn at<'b>(&'b self, path: &'b Path<'b>) -> Node<'b> {
        Node { shape: self.shape, element: self.element, path, violations: self.violations }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(match self.shape {
            Shape::One(Kind::Message(descriptor)) if descriptor.full_name() == "google.protobuf.Value" => {
                self.scalar(|_| dynamic(descriptor, ()))
            }
            Shape::One(Kind::Enum(descriptor)) if descriptor.full_name() == "google.protobuf.NullValue" => {
                Some(Value::EnumNumber(0))
            }
            _ if self.element => self.violation("must not be null"),
            _ => None,
        })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Option<Value>, E> {
        Ok(self.scalar(|kind| match kind {
            Kind::Bool => Ok(Value::Bool(value)),
            Kind::Message(descriptor) if is_any_json(descriptor) => dynamic(descriptor, value),
            kind => Err(text::expected(kind)),
        }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Option<Value>, E> {
        Ok(self.number(Number::Signed(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<Value>, E> {
        Ok(self.number(Number::Unsigned(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Option<Value>, E> {
        Ok(self.number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Option<Value>, E> {
        Ok(self.scalar(|kind| match kind {
            Kind::Bool => Err(text::expected(kind)),
            Kind::Message(descriptor) if is_any_json(descriptor) => dynamic(descriptor, value),
            Kind::Message(descriptor) if !text::is_written_as_text(descriptor) => Err(text::expected(kind)),
            kind => text::parse(kind, value),
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Value>, A::Error> {
        match self.shape {
            Shape::List(kind) => {
                let mut values = Vec::new();
                loop {
                    let path = Path::Index(self.path, values.len());
                    let node =
                        Node { shape: Shape::One(kind), element: true, path: &path, violations: self.violations };
                    match seq.next_element_seed(node)? {
                        Some(Some(value)) => values.push(value),
                        // A fault is on record; its default keeps the places of those that follow.
                        Some(None) => values.push(kind.default_value()),
                        None => return Ok(Some(Value::List(values))),
                    }
                }
            }
            Shape::One(Kind::Message(descriptor))
                if matches!(descriptor.full_name(), "google.protobuf.ListValue" | "google.protobuf.Value") =>
            {
                let list = DynamicMessage::deserialize(descriptor.clone(), SeqAccessDeserializer::new(seq))?;
                Ok(Some(Value::Message(list)))
            }
            _ => {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(self.unexpected())
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        match self.shape {
            Shape::Map(entry) => self.entries(entry, map),
            Shape::One(Kind::Message(descriptor)) => match descriptor.full_name() {
                "google.protobuf.Struct" | "google.protobuf.Value" => {
                    let object = DynamicMessage::deserialize(descriptor.clone(), MapAccessDeserializer::new(map))?;
                    Ok(Some(Value::Message(object)))
                }
                "google.protobuf.Any" => self.any(descriptor, map),
                _ if text::is_written_as_text(descriptor) || descriptor.full_name() == "google.protobuf.ListValue" => {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Ok(self.unexpected())
                }
                _ => self.fields(descriptor, map),
            },
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(self.unexpected())
            }
        }
    }
}

fn is_any_json(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name() == "google.protobuf.Value"
}

/// A `google.protobuf.Value` of a scalar.
fn dynamic<'de>(
    descriptor: &MessageDescriptor,
    value: impl IntoDeserializer<'de, ScalarError>,
) -> Result<Value, String> {
    DynamicMessage::deserialize(descriptor.clone(), value.into_deserializer())
        .map(Value::Message)
        .map_err(|error| error.to_string())
}
