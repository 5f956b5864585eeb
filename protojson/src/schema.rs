//! What is compiled once from descriptors, and the messages in it.

use std::fmt;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::{Fault, Malformed, Path, dynamic};

/// All messages of a descriptor pool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    pool: DescriptorPool,
}

/// One message type. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    descriptor: MessageDescriptor,
}

impl Schema {
    pub fn new(pool: &DescriptorPool) -> Self {
        Self { pool: pool.clone() }
    }

    /// A message by its full name: `library.v1.Book`.
    pub fn message(&self, full_name: &str) -> Option<Message> {
        self.pool.get_message_by_name(full_name).map(|descriptor| Message { descriptor })
    }
}

impl Message {
    pub fn full_name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// Appends the message that a JSON text is, encoded. Nothing is appended where it is none.
    ///
    /// # Errors
    /// As [`Fault`] has them.
    pub fn read(&self, json: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        let message = dynamic::read::message(&self.descriptor, json)?;
        encode(&message, wire);
        Ok(())
    }

    /// Appends an encoded message as JSON. Nothing is appended where it can't be.
    ///
    /// # Errors
    /// As [`Malformed`] has them.
    pub fn write(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = json.len();
        let message = decode(&self.descriptor, wire)?;
        dynamic::write_message(&message, json).map_err(|error| {
            json.truncate(start);
            Malformed(error.to_string())
        })
    }

    /// The field that dotted names lead to, through singular messages only, each name in its lowerCamel or its original
    /// form.
    pub fn path(&self, dotted: &str) -> Option<Path> {
        Path::resolve(&self.descriptor, dotted)
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
