//! `google.protobuf.Any`: a message with the name of its type, wherever among its members that stands.

use std::borrow::Cow;

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use serde::de::{DeserializeSeed as _, Error as _, MapAccess, value::MapDeserializer};
use serde_json::value::RawValue;

use super::{
    super::text,
    node::{Node, Shape},
    path::Path,
};

const TYPE: &str = "@type";

impl Node<'_> {
    pub(super) fn any<'de, A: MapAccess<'de>>(
        &self,
        descriptor: &MessageDescriptor,
        mut map: A,
    ) -> Result<Option<Value>, A::Error> {
        // What the members mean is known when the type is, so they are kept as they are written.
        let mut members: Vec<(Cow<'_, str>, Box<RawValue>)> = Vec::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            members.push((name, map.next_value()?));
        }
        let Some(place) = members.iter().position(|(name, _)| name == TYPE) else {
            return Ok(self.violation("must say its `@type`"));
        };
        let (_, type_url) = members.remove(place);
        if members.iter().any(|(name, _)| name == TYPE) {
            return Ok(self.at(&Path::Field(self.path, TYPE)).violation("is given twice"));
        }
        let type_url: String = serde_json::from_str(type_url.get()).unwrap_or_default();
        let named = type_url.rsplit_once('/').and_then(|(_, name)| descriptor.parent_pool().get_message_by_name(name));
        let Some(named) = named else {
            return Ok(self.at(&Path::Field(self.path, TYPE)).violation("names no message that is known here"));
        };
        let content = if is_shown_by_fields(&named) {
            let members = members.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
            self.fields(&named, MapDeserializer::<_, serde_json::Error>::new(members)).map_err(A::Error::custom)?
        } else {
            self.value_of(&named, &members).map_err(A::Error::custom)?
        };
        let Some(Value::Message(content)) = content else { return Ok(None) };
        let mut any = DynamicMessage::new(descriptor.clone());
        let value = Value::Bytes(content.encode_to_vec().into());
        let set = any.try_set_field_by_number(1, Value::String(type_url)).and(any.try_set_field_by_number(2, value));
        Ok(if set.is_ok() { Some(Value::Message(any)) } else { self.violation("is of another kind") })
    }

    /// A message that isn't shown as an object of its fields stands in a member of its own.
    fn value_of(
        &self,
        descriptor: &MessageDescriptor,
        members: &[(Cow<'_, str>, Box<RawValue>)],
    ) -> Result<Option<Value>, serde_json::Error> {
        let mut content = None;
        let mut is_given = false;
        for (name, value) in members {
            let path = Path::Field(self.path, name);
            if name != "value" {
                self.at(&path).violation("is not a known field");
            } else if std::mem::replace(&mut is_given, true) {
                self.at(&path).violation("is given twice");
            } else {
                let kind = Kind::Message(descriptor.clone());
                let node = Node { shape: Shape::One(&kind), element: true, ..self.at(&path) };
                content = node.deserialize(&mut serde_json::Deserializer::from_str(value.get()))?;
            }
        }
        if !is_given {
            self.violation("must say its `value`");
        }
        Ok(content)
    }
}

fn is_shown_by_fields(descriptor: &MessageDescriptor) -> bool {
    !text::is_written_as_text(descriptor)
        && !matches!(
            descriptor.full_name(),
            "google.protobuf.Any"
                | "google.protobuf.Empty"
                | "google.protobuf.Struct"
                | "google.protobuf.Value"
                | "google.protobuf.ListValue"
        )
}
