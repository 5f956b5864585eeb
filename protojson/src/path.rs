//! One field within encoded messages: `id`, `book.id`, `page.size`.

use std::fmt;

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};

use crate::{
    Fault, Malformed, Message,
    dynamic::{FieldPath, read, write_field},
    schema::{decode, encode},
};

/// A way from a message to a field in it, through singular messages only. Shown as the original names. Cheap to clone.
#[derive(Clone)]
pub struct Path {
    message: MessageDescriptor,
    field: FieldPath,
}

impl Path {
    pub(crate) fn resolve(message: &Message, dotted: &str) -> Option<Self> {
        let message = &message.descriptor;
        Some(Self { message: message.clone(), field: FieldPath::resolve(message, dotted)? })
    }

    /// The field it leads to.
    pub fn leaf(&self) -> &FieldDescriptor {
        self.field.leaf()
    }

    /// Whether it leads to the other's field or into it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.field.starts_with(&other.field)
    }

    /// Appends the field, given as text, to an encoded message: a singular one takes the place of what was there, a
    /// repeated one gets another element.
    ///
    /// # Errors
    /// A sentence: the text is no value of the field, or it can't be given as text. That another member of its oneof is
    /// set is an error too.
    pub fn append(&self, wire: &mut Vec<u8>, text: &str) -> Result<(), String> {
        // Set in what is there, for the sake of its oneof; appended alone, since encoded messages merge by appending.
        let mut whole = self.decode(wire).map_err(|Malformed(reason)| reason)?;
        self.field.set_text(&mut whole, text)?;
        let mut alone = DynamicMessage::new(self.message.clone());
        self.field.set_text(&mut alone, text)?;
        self.append_alone(&alone, wire);
        Ok(())
    }

    /// Appends the field, given as JSON; null appends nothing.
    ///
    /// # Errors
    /// As [`Fault`] has them; paths start below the field.
    pub fn read(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(value) = read::field(self.leaf(), json)? else { return Ok(()) };
        let mut alone = DynamicMessage::new(self.message.clone());
        // A value of the field's own kind.
        let _ = self.field.set(&mut alone, value);
        self.append_alone(&alone, wire);
        Ok(())
    }

    /// Appends the field's value as JSON; null where it is not set and has no default.
    ///
    /// # Errors
    /// As [`Malformed`] has them.
    pub fn write(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = json.len();
        let message = self.decode(wire)?;
        write_field(&message, &self.field, json).map_err(|error| {
            json.truncate(start);
            Malformed(error.to_string())
        })
    }

    /// The value as text, as it would stand in a path; none where it is not set and has no default, and for what is no
    /// single value.
    pub fn text(&self, wire: &[u8]) -> Option<String> {
        let message = self.decode(wire).ok()?;
        match self.field.get(&message)?.as_ref() {
            Value::String(text) => Some(text.clone()),
            Value::List(_) | Value::Map(_) => None,
            _ => {
                let mut json = Vec::new();
                write_field(&message, &self.field, &mut json).ok()?;
                let text =
                    String::from_utf8(json).ok().filter(|text| !text.starts_with(['{', '[']) && text != "null")?;
                Some(text.trim_matches('"').to_owned())
            }
        }
    }

    /// Whether an encoded message has something else in the field than its default.
    pub fn is_set(&self, wire: &[u8]) -> bool {
        self.decode(wire).is_ok_and(|message| self.field.is_set(&message))
    }

    fn decode(&self, wire: &[u8]) -> Result<DynamicMessage, Malformed> {
        decode(&self.message, wire)
    }

    fn append_alone(&self, alone: &DynamicMessage, wire: &mut Vec<u8>) {
        encode(alone, wire);
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {self}", self.message.full_name())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.field.fmt(formatter)
    }
}
