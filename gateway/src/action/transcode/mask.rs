//! The field mask of a PATCH that brings none: what its JSON says, and no more (<https://google.aip.dev/134>).

use std::{collections::HashMap, fmt};

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use protojson::Path;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The names of a resource's fields, however deep, and the field that says which of them are meant.
pub struct Mask {
    /// The number of the field.
    number: u32,
    /// The resource first; one entry a message type, because one may hold itself.
    messages: Vec<Names>,
}

/// By lowerCamel and by original name: the original one, and the message type whose fields can be named one by one.
type Names = HashMap<String, (String, Option<usize>)>;

impl Mask {
    /// None where the body is no message whose fields can be named.
    pub fn new(mask: &Path, body: &Path) -> Option<Self> {
        let Kind::Message(resource) = body.leaf().kind() else { return None };
        let is_mask =
            matches!(mask.leaf().kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.FieldMask");
        let is_resource = is_plain(body.leaf());
        (is_mask && is_resource && !mask.leaf().is_list())
            .then(|| Self { number: mask.leaf().number(), messages: tables(&resource) })
    }

    /// Paths of all that a body says, by original names: `title`, `price.currency`. A list, a map and a well-known type
    /// are changed as a whole; so is a message that is null or says nothing. Empty for what is no JSON object.
    pub fn paths(&self, json: &[u8]) -> Vec<String> {
        let mut paths = Vec::new();
        let object = Object { mask: self, message: 0, prefix: "", paths: &mut paths };
        // What doesn't parse is refused by who reads it.
        _ = object.deserialize(&mut serde_json::Deserializer::from_slice(json));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Appends the field, with these paths, to an encoded message.
    pub fn append<'a>(&self, paths: impl Iterator<Item = &'a String>, wire: &mut Vec<u8>) {
        let mut mask = Vec::with_capacity(64);
        for path in paths {
            encode_key(1, WireType::LengthDelimited, &mut mask);
            encode_varint(path.len() as u64, &mut mask);
            mask.extend_from_slice(path.as_bytes());
        }
        encode_key(self.number, WireType::LengthDelimited, wire);
        encode_varint(mask.len() as u64, wire);
        wire.extend_from_slice(&mask);
    }
}

fn tables(resource: &MessageDescriptor) -> Vec<Names> {
    let mut found = vec![resource.clone()];
    let mut tables = Vec::new();
    while let Some(message) = found.get(tables.len()).cloned() {
        let mut names = Names::new();
        for field in message.fields() {
            let nested = match field.kind() {
                Kind::Message(nested) if is_plain(&field) => {
                    Some(found.iter().position(|known| *known == nested).unwrap_or_else(|| {
                        found.push(nested);
                        found.len() - 1
                    }))
                }
                _ => None,
            };
            for name in [field.json_name(), field.name()] {
                names.insert(name.to_owned(), (field.name().to_owned(), nested));
            }
        }
        tables.push(names);
    }
    tables
}

/// Whether it is a message with fields of its own, and only one.
fn is_plain(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.package_name() != "google.protobuf")
        && !field.is_list()
        && !field.is_map()
}

/// An object of JSON on its way into paths.
struct Object<'a> {
    mask: &'a Mask,
    message: usize,
    prefix: &'a str,
    paths: &'a mut Vec<String>,
}

/// Whether it was an object that said something.
impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut said = false;
        while let Some(name) = members.next_key::<String>()? {
            said = true;
            let Some((name, nested)) = self.mask.messages[self.message].get(&name) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let path = format!("{}{name}", self.prefix);
            let is_named_below = match *nested {
                None => {
                    members.next_value::<IgnoredAny>()?;
                    false
                }
                Some(message) => {
                    let prefix = format!("{path}.");
                    let below = Object { mask: self.mask, message, prefix: &prefix, paths: self.paths };
                    members.next_value_seed(below)?
                }
            };
            if !is_named_below {
                self.paths.push(path);
            }
        }
        Ok(said)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}
