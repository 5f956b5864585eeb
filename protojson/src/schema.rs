//! What is compiled once from descriptors, and the messages in it.

use std::{fmt, sync::Arc};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::{
    Fault, Malformed, Path, dynamic, read,
    table::{self, Tables},
    write,
};

/// All messages of a descriptor pool, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    pool: DescriptorPool,
    tables: Arc<Tables>,
}

/// One message type. Cheap to clone.
#[derive(Clone)]
pub struct Message {
    pub(crate) descriptor: MessageDescriptor,
    pub(crate) tables: Arc<Tables>,
    pub(crate) place: usize,
}

impl Schema {
    pub fn new(pool: &DescriptorPool) -> Self {
        Self { pool: pool.clone(), tables: Arc::new(Tables::new(pool)) }
    }

    /// A message by its full name: `library.v1.Book`.
    pub fn message(&self, full_name: &str) -> Option<Message> {
        let (descriptor, place) = (self.pool.get_message_by_name(full_name)?, *self.tables.places.get(full_name)?);
        Some(Message { descriptor, tables: Arc::clone(&self.tables), place })
    }
}

impl Message {
    pub fn full_name(&self) -> &str {
        self.descriptor.full_name()
    }

    pub fn descriptor(&self) -> &MessageDescriptor {
        &self.descriptor
    }

    /// Appends the message that a JSON text is, encoded. Nothing is appended where it is none.
    ///
    /// # Errors
    /// As [`Fault`] has them.
    pub fn read(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        if !self.read_by_tables(json, wire) {
            encode(&dynamic::read::message(&self.descriptor, json)?, wire);
        }
        Ok(())
    }

    /// Appends an encoded message as JSON. Nothing is appended where it can't be.
    ///
    /// # Errors
    /// As [`Malformed`] has them.
    pub fn write(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Malformed> {
        let tables = |json: &mut Vec<u8>| write::message(&self.tables, self.table(), wire, json);
        let dynamic = |json: &mut Vec<u8>| Ok(dynamic::write_message(&decode(&self.descriptor, wire)?, json)?);
        write::either(tables, dynamic, json)
    }

    /// [`Message::read`] by the tables alone: false, and nothing appended, for what they leave to the dynamic path.
    pub fn read_by_tables(&self, json: &[u8], wire: &mut Vec<u8>) -> bool {
        let start = wire.len();
        let read = read::message(&self.tables, self.table(), json, wire).is_ok();
        if !read {
            wire.truncate(start);
        }
        read
    }

    /// [`Message::write`] by the tables alone: false, and nothing appended, for what they leave to the dynamic path.
    pub fn write_by_tables(&self, wire: &[u8], json: &mut Vec<u8>) -> bool {
        let start = json.len();
        let written = write::message(&self.tables, self.table(), wire, json).is_ok();
        if !written {
            json.truncate(start);
        }
        written
    }

    /// The field that dotted names lead to, at most [`DEPTH`](crate::DEPTH) of them, through singular messages only, each
    /// name in its lowerCamel or its original form.
    pub fn path(&self, dotted: &str) -> Option<Path> {
        Path::resolve(self, dotted)
    }

    pub(crate) fn table(&self) -> &table::Message {
        &self.tables.messages[self.place]
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.descriptor == other.descriptor
    }
}

impl Eq for Message {}

impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a schema of {} messages", self.tables.messages.len())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.full_name())
    }
}

pub(crate) fn decode(descriptor: &MessageDescriptor, wire: &[u8]) -> Result<DynamicMessage, Malformed> {
    DynamicMessage::decode(descriptor.clone(), wire).map_err(|error| Malformed(error.to_string()))
}

/// A `Vec` takes whatever is encoded.
#[expect(clippy::expect_used, reason = "only a buffer of a fixed size can be too small")]
pub(crate) fn encode(message: &DynamicMessage, wire: &mut Vec<u8>) {
    message.encode(wire).expect("a vector grows");
}
