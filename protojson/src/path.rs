//! One field within encoded messages: `id`, `book.id`, `page.size`.

use std::fmt;

use prost_reflect::{DynamicMessage, FieldDescriptor};

use crate::{
    Fault, Malformed, Message,
    dynamic::{self, FieldPath, write_field},
    read,
    schema::{decode, encode},
    table::{Field, Kind, Shape},
    wire::{self, Broken, Cursor, WireType},
    write::{self, Unwritten},
};

/// A way from a message to a field in it, through singular messages only. Shown as the original names.
#[derive(Clone)]
pub struct Path {
    message: Message,
    field: FieldPath,
    /// The places of the fields on the way and of the last, each in its message's table.
    places: Vec<(usize, usize)>,
}

impl Path {
    pub(crate) fn resolve(message: &Message, dotted: &str) -> Option<Self> {
        let field = FieldPath::resolve(&message.descriptor, dotted)?;
        let mut places = Vec::new();
        let mut table = message.place;
        for number in field.numbers() {
            let place = message.tables.messages.get(table)?.numbered(number, 0)?;
            places.push((table, place));
            if let Kind::Message(next) = message.tables.messages[table].fields[place].kind {
                table = next;
            }
        }
        Some(Self { message: message.clone(), field, places })
    }

    /// The field it leads to.
    pub fn leaf(&self) -> &FieldDescriptor {
        self.field.leaf()
    }

    /// Whether it leads to the other's field or into it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.field.starts_with(&other.field)
    }

    /// Appends the field, given as text, to an encoded message. It takes the place of what was there, but for a field mask,
    /// which gets more paths, and a repeated field, which gets another element.
    ///
    /// # Errors
    /// A sentence: the text is no value of the field, or it can't be given as text. That another member of its oneof is
    /// set, or of that of a field on the way, is an error too.
    pub fn append(&self, wire: &mut Vec<u8>, text: &str) -> Result<(), String> {
        let start = wire.len();
        let (leaf, parents) = self.fields();
        if nest(parents, wire, |wire| read::text(&self.message.tables, leaf, text, wire).map(|()| true)).is_err() {
            wire.truncate(start);
            let mut alone = DynamicMessage::new(self.message.descriptor.clone());
            self.field.set_text(&mut alone, text)?;
            encode(&alone, wire);
        }
        if let Some(other) = self.rival(&wire[..start]) {
            wire.truncate(start);
            return Err(format!("can't be given beside `{other}`"));
        }
        Ok(())
    }

    /// The name of another member that is set of its oneof, or of that of a field on the way.
    fn rival(&self, wire: &[u8]) -> Option<String> {
        let (leaf, mut parents) = self.fields();
        if leaf.oneof.is_none() && parents.all(|parent| parent.oneof.is_none()) {
            return None;
        }
        match self.rival_below(&self.places, wire) {
            Ok(other) => other,
            // What the tables can't pass over, and what is no message: that shows elsewhere.
            Err(Broken) => self.field.rival(&self.decode(wire).ok()?).map(|other| other.json_name().to_owned()),
        }
    }

    /// The same for what is left of the way, in a message there.
    fn rival_below(&self, places: &[(usize, usize)], wire: &[u8]) -> Result<Option<String>, Broken> {
        let Some((&(table, place), below)) = places.split_first() else { return Ok(None) };
        let fields = &self.message.tables.messages[table];
        let own = &fields.fields[place];
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            if number == own.number && !below.is_empty() && wire_type == WireType::Bytes as u8 {
                let other = self.rival_below(below, cursor.slice()?)?;
                if other.is_some() {
                    return Ok(other);
                }
                continue;
            }
            let other = fields.numbered(number, place).map(|place| &fields.fields[place]);
            if let Some(other) =
                other.filter(|other| number != own.number && own.oneof.is_some() && other.oneof == own.oneof)
            {
                return Ok(Some(other.json_name().into_owned()));
            }
            cursor.skip(wire_type)?;
        }
        Ok(None)
    }

    /// Appends the field, given as JSON; null appends nothing.
    ///
    /// # Errors
    /// As [`Fault`] has them; paths start below the field.
    pub fn read(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        let start = wire.len();
        let (leaf, parents) = self.fields();
        if nest(parents, wire, |wire| read::field(&self.message.tables, leaf, json, wire)).is_ok() {
            return Ok(());
        }
        wire.truncate(start);
        let Some(value) = dynamic::read::field(self.leaf(), json)? else { return Ok(()) };
        let mut alone = DynamicMessage::new(self.message.descriptor.clone());
        // A value of the field's own kind.
        let _ = self.field.set(&mut alone, value);
        encode(&alone, wire);
        Ok(())
    }

    /// Appends the field's value as JSON; null where it is not set and has no default.
    ///
    /// # Errors
    /// As [`Malformed`] has them. What surrounds the field is passed over, and may be malformed.
    pub fn write(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Malformed> {
        let dynamic = |json: &mut Vec<u8>| Ok(write_field(&self.decode(wire)?, &self.field, json)?);
        write::either(|json| self.write_by_tables(wire, json), dynamic, json)
    }

    fn write_by_tables(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Unwritten> {
        let (leaf, _) = self.fields();
        match self.holder(wire)? {
            _ if leaf.oneof.is_some() => Err(Unwritten::Unusual),
            Some(holder) => write::field(&self.message.tables, leaf, holder, json),
            None => {
                json.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    /// The value as text, as it would stand in a path; none where it is not set and has no default, and for what is no
    /// single value.
    pub fn text(&self, wire: &[u8]) -> Option<String> {
        let mut json = Vec::new();
        self.write(wire, &mut json).ok()?;
        match json.first()? {
            b'"' => serde_json::from_slice(&json).ok(),
            b'{' | b'[' | b'n' => None,
            _ => String::from_utf8(json).ok(),
        }
    }

    /// Whether an encoded message has something else in the field than its default.
    pub fn is_set(&self, wire: &[u8]) -> bool {
        let (leaf, _) = self.fields();
        let is_absent = match self.holder(wire) {
            Ok(Some(holder)) => !has(leaf, holder),
            Ok(None) => true,
            Err(_) => false,
        };
        !is_absent && self.decode(wire).is_ok_and(|message| self.field.is_set(&message))
    }

    /// The encoded message that holds the field; none where one on the way is not set.
    fn holder<'a>(&self, wire: &'a [u8]) -> Result<Option<&'a [u8]>, Unwritten> {
        let (_, parents) = self.fields();
        let mut holder = wire;
        for parent in parents {
            let (mut cursor, mut found) = (Cursor::new(holder), None);
            while !cursor.is_empty() {
                let (number, wire_type) = cursor.tag()?;
                if number != parent.number {
                    cursor.skip(wire_type)?;
                    continue;
                }
                // In pieces, or gone when another member of the oneof came.
                if wire_type != WireType::Bytes as u8 || found.is_some() || parent.oneof.is_some() {
                    return Err(Unwritten::Unusual);
                }
                found = Some(cursor.slice()?);
            }
            match found {
                Some(found) => holder = found,
                None => return Ok(None),
            }
        }
        Ok(Some(holder))
    }

    /// The last field, and those on the way.
    fn fields(&self) -> (&Field, impl Iterator<Item = &Field>) {
        let field = |(table, place): &(usize, usize)| &self.message.tables.messages[*table].fields[*place];
        // There is always a last one: an empty path resolves to nothing.
        let (last, parents) = self.places.split_last().unwrap_or((&(0, 0), &[]));
        (field(last), parents.iter().map(field))
    }

    fn decode(&self, wire: &[u8]) -> Result<DynamicMessage, Malformed> {
        decode(&self.message.descriptor, wire)
    }
}

/// Whether there is anything of the field.
fn has(field: &Field, wire: &[u8]) -> bool {
    let mut cursor = Cursor::new(wire);
    while let Ok((number, wire_type)) = cursor.tag() {
        if number == field.number {
            return true;
        }
        if cursor.skip(wire_type).is_err() {
            return true;
        }
    }
    !cursor.is_empty()
}

/// Appends what `leaf` appends within the messages of the fields on the way; nothing where it sets nothing.
fn nest<'a, E>(
    parents: impl Iterator<Item = &'a Field>,
    wire: &mut Vec<u8>,
    leaf: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
) -> Result<(), E> {
    let outermost = wire.len();
    let mut starts = Vec::new();
    for parent in parents {
        debug_assert_eq!(parent.shape, Shape::One);
        parent.tag.put(wire);
        starts.push(wire::begin(wire));
    }
    if !leaf(wire)? {
        wire.truncate(outermost);
        return Ok(());
    }
    for start in starts.into_iter().rev() {
        wire::end(wire, start);
    }
    Ok(())
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {self}", self.message)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.field.fmt(formatter)
    }
}
