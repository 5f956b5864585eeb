//! What reading and writing go by: each message's fields in the order of their numbers, with everything about them that
//! can be known beforehand, down to the bytes that begin them.

mod compile;

use std::{borrow::Cow, collections::HashMap};

use crate::wire::Tag;

/// All messages and enums of a pool, which name each other by their places.
#[derive(Debug, Default)]
pub struct Tables {
    pub messages: Vec<Message>,
    pub enums: Vec<Enum>,
    /// The messages' places by full name.
    pub places: HashMap<String, usize>,
}

#[derive(Debug)]
pub struct Message {
    pub form: Form,
    /// By number.
    pub fields: Box<[Field]>,
    /// Both names of every field, sorted, with its place.
    names: Box<[(Box<[u8]>, u16)]>,
    /// A number that isn't known may be an extension's.
    pub is_extensible: bool,
}

/// How JSON shows a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Empty,
    /// By the only field there is.
    Wrapper,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    ListValue,
    Value,
    /// With the name of what is in it.
    Any,
    /// In a way the tables don't know.
    Other,
}

#[derive(Debug)]
pub struct Field {
    pub number: u32,
    pub shape: Shape,
    pub kind: Kind,
    /// Begins one value.
    pub tag: Tag,
    /// Begins a packed list.
    pub packed: Option<Tag>,
    /// A default that was set differs from one that wasn't.
    pub has_presence: bool,
    /// The place of its oneof, of those that have more than one member.
    pub oneof: Option<u8>,
    /// `,"name":`
    pub name: Box<[u8]>,
    /// `,"name":0`, or nothing, where the field isn't set.
    pub absent: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    /// Its kind is the entry's message.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Bool,
    String,
    Bytes,
    Enum(usize),
    Message(usize),
    /// Encoded between two tags; rare, and left to the dynamic path.
    Group,
}

#[derive(Debug)]
pub struct Enum {
    /// `google.protobuf.NullValue`, which JSON shows as null.
    pub is_null: bool,
    /// Sorted.
    names: Box<[(Box<[u8]>, i32)]>,
    /// The name a number is shown by, with its quotes; sorted by the number.
    shown: Box<[(i32, Box<[u8]>)]>,
}

impl Field {
    pub fn json_name(&self) -> Cow<'_, str> {
        let len = self.name.len();
        String::from_utf8_lossy(self.name.get(2..len.saturating_sub(2)).unwrap_or_default())
    }
}

impl Form {
    /// Whether JSON shows one value, which can be given as text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Wrapper | Self::Timestamp | Self::Duration | Self::FieldMask)
    }
}

impl Tables {
    /// The message that a type URL names after its last slash.
    pub fn named_by(&self, type_url: &[u8]) -> Option<&Message> {
        let (_, name) = std::str::from_utf8(type_url).ok()?.rsplit_once('/')?;
        self.messages.get(*self.places.get(name)?)
    }
}

impl Message {
    /// The place of a field by either name. `expected` is tried first.
    #[inline]
    pub fn named(&self, name: &[u8], expected: usize) -> Option<usize> {
        if let Some(field) = self.fields.get(expected)
            && field.name.len() == name.len() + 4
            && &field.name[2..name.len() + 2] == name
        {
            return Some(expected);
        }
        let found = self.names.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(usize::from(self.names[found].1))
    }

    /// The place of a field by its number. `expected` is tried first.
    #[inline]
    pub fn numbered(&self, number: u32, expected: usize) -> Option<usize> {
        if self.fields.get(expected).is_some_and(|field| field.number == number) {
            return Some(expected);
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }
}

impl Enum {
    pub fn number(&self, name: &[u8]) -> Option<i32> {
        let found = self.names.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(self.names[found].1)
    }

    /// The name of a number, with its quotes.
    pub fn shown(&self, number: i32) -> Option<&[u8]> {
        let found = self.shown.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        Some(&self.shown[found].1)
    }
}
