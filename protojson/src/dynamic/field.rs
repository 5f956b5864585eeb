//! The place of a field in a message: `id`, `product.id`, `page.size`.

use std::{borrow::Cow, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::text;
use crate::DEPTH;

/// A path from a message to a field in it, through singular messages only. Shown as the original names.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldPath {
    parents: Vec<FieldDescriptor>,
    leaf: FieldDescriptor,
}

impl FieldPath {
    /// Resolves at most [`DEPTH`] dotted names, each in its lowerCamel or its original form.
    pub fn resolve(message: &MessageDescriptor, path: &str) -> Option<Self> {
        // A message may hold itself, and who asks says how often.
        if path.split('.').nth(DEPTH).is_some() {
            return None;
        }
        let mut names = path.split('.');
        let mut leaf = named(message, names.next()?)?;
        let mut parents = Vec::new();
        for name in names {
            let Kind::Message(nested) = leaf.kind() else { return None };
            if leaf.is_list() || leaf.is_map() || text::is_written_as_text(&nested) {
                return None;
            }
            let next = named(&nested, name)?;
            parents.push(std::mem::replace(&mut leaf, next));
        }
        Some(Self { parents, leaf })
    }

    pub fn leaf(&self) -> &FieldDescriptor {
        &self.leaf
    }

    /// The numbers of the fields on the way, the last of them its own.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.parents.iter().chain([&self.leaf]).map(FieldDescriptor::number)
    }

    /// Whether it leads to the other's field or into it.
    pub fn starts_with(&self, other: &Self) -> bool {
        let mut numbers = self.numbers();
        other.numbers().all(|number| numbers.next() == Some(number))
    }

    /// The value, or its default; none where a message (the field's or one on the way) is not set.
    pub fn get<'a>(&self, message: &'a DynamicMessage) -> Option<Cow<'a, Value>> {
        let Some((first, rest)) = self.parents.split_first() else { return present(message, &self.leaf) };
        // Where a parent is set it is borrowed from the message, so that this ends in a borrow of the message too.
        let mut nested = borrowed(message, first)?;
        for parent in rest {
            nested = borrowed(nested, parent)?;
        }
        present(nested, &self.leaf)
    }

    /// Whether the field holds something else than its default.
    pub fn is_set(&self, message: &DynamicMessage) -> bool {
        self.get(message).is_some_and(|value| !value.is_default_for_field(&self.leaf))
    }

    /// The message that holds the field, made with all on the way where it isn't there yet.
    fn holder<'a>(&self, mut message: &'a mut DynamicMessage) -> Option<&'a mut DynamicMessage> {
        for parent in &self.parents {
            message = message.get_field_mut(parent).as_message_mut()?;
        }
        Some(message)
    }

    /// Sets the field, over what was there.
    ///
    /// # Errors
    /// A sentence: the value is of another kind.
    pub fn set(&self, message: &mut DynamicMessage, value: Value) -> Result<(), String> {
        let holder = self.holder(message).ok_or("can't be set")?;
        holder.try_set_field(&self.leaf, value).map_err(|_| "is of another kind".to_owned())
    }

    /// Another member that is set of its oneof, or of that of a field on the way: it would be gone.
    pub(crate) fn rival(&self, message: &DynamicMessage) -> Option<FieldDescriptor> {
        let mut holder = message;
        for parent in &self.parents {
            if let Some(other) = rival(holder, parent) {
                return Some(other);
            }
            holder = borrowed(holder, parent)?;
        }
        rival(holder, &self.leaf)
    }

    /// Sets a singular field from text, or appends to a repeated one.
    ///
    /// # Errors
    /// A sentence: the text is no value of the field, another member of its oneof (or of that of a field on the way) is
    /// set, or it can't be given as text.
    pub fn set_text(&self, message: &mut DynamicMessage, text: &str) -> Result<(), String> {
        if self.leaf.is_map() {
            return Err("is a map, which can't be given here".to_owned());
        }
        let value = text::parse(&self.leaf.kind(), text)?;
        if let Some(other) = self.rival(message) {
            return Err(format!("can't be given beside `{}`", other.json_name()));
        }
        let holder = self.holder(message).ok_or("can't be set")?;
        if !self.leaf.is_list() {
            return holder.try_set_field(&self.leaf, value).map_err(|_| "is of another kind".to_owned());
        }
        let list = holder.get_field_mut(&self.leaf).as_list_mut().ok_or("is of another kind")?;
        list.push(value);
        Ok(())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for parent in &self.parents {
            write!(formatter, "{}.", parent.name())?;
        }
        formatter.write_str(self.leaf.name())
    }
}

/// Another member of the field's oneof that is set.
pub(super) fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof()?;
    oneof.fields().find(|other| other.number() != field.number() && message.has_field(other))
}

/// A field by its lowerCamel or its original name.
pub(super) fn named(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

fn present<'a>(message: &'a DynamicMessage, field: &FieldDescriptor) -> Option<Cow<'a, Value>> {
    (!field.supports_presence() || message.has_field(field)).then(|| message.get_field(field))
}

fn borrowed<'a>(message: &'a DynamicMessage, field: &FieldDescriptor) -> Option<&'a DynamicMessage> {
    match message.get_field(field) {
        Cow::Borrowed(Value::Message(nested)) if message.has_field(field) => Some(nested),
        _ => None,
    }
}
