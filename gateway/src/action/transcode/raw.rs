//! `google.api.HttpBody`: bytes of any type, which pass as they are. Read and written by its field numbers, which never
//! change: `content_type` is 1, `data` is 2.

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, header};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};
use protojson::Path;

const NAME: &str = "google.api.HttpBody";
const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// Where a message has its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is nothing else.
    Whole,
    /// In this field.
    Field(u32),
}

impl Place {
    /// Of a message, or of the field of it that a rule names.
    pub fn of(message: &MessageDescriptor, field: Option<&Path>) -> Option<Self> {
        match field {
            None => (message.full_name() == NAME).then_some(Self::Whole),
            Some(path) => match path.leaf().kind() {
                Kind::Message(kind) if kind.full_name() == NAME && !path.leaf().is_list() => {
                    Some(Self::Field(path.leaf().number()))
                }
                _ => None,
            },
        }
    }

    /// Appends a body to an encoded message. Pieces of one body that go in several messages have their type in the first.
    pub fn append(self, content_type: Option<&HeaderValue>, data: &[u8], wire: &mut Vec<u8>) {
        // What isn't UTF-8 is no media type.
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut body = Vec::new();
        let body = match self {
            Self::Whole => &mut *wire,
            Self::Field(_) => &mut body,
        };
        body.reserve(data.len() + content_type.len() + 24);
        for (number, bytes) in [(CONTENT_TYPE, content_type.as_bytes()), (DATA, data)] {
            if !bytes.is_empty() {
                append(number, bytes, body);
            }
        }
        if let Self::Field(number) = self {
            let body = std::mem::take(body);
            append(number, &body, wire);
        }
    }

    /// The body that an encoded message has: a piece of the message, not a copy.
    ///
    /// # Errors
    /// A sentence: it is no such message.
    pub fn read(self, message: Bytes) -> Result<Raw, String> {
        let mut raw = Raw::default();
        match self {
            Self::Whole => raw.merge(message)?,
            Self::Field(number) => each(message, |own, bytes| if own == number { raw.merge(bytes) } else { Ok(()) })?,
        }
        Ok(raw)
    }
}

/// What a message has as its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Raw {
    content_type: Bytes,
    pub data: Bytes,
}

impl Raw {
    fn merge(&mut self, message: Bytes) -> Result<(), String> {
        each(message, |number, bytes| {
            match number {
                CONTENT_TYPE => self.content_type = bytes,
                DATA => self.data = bytes,
                _ => {}
            }
            Ok(())
        })
    }

    /// Says in the header what it is. What the service doesn't say is not guessed.
    pub fn label(&self, headers: &mut HeaderMap) {
        let named = HeaderValue::from_maybe_shared(self.content_type.clone()).ok().filter(|value| !value.is_empty());
        headers.insert(header::CONTENT_TYPE, named.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    }
}

fn append(number: u32, bytes: &[u8], wire: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, wire);
    encode_varint(bytes.len() as u64, wire);
    wire.extend_from_slice(bytes);
}

/// Every field of a message that has a length, in order.
fn each(mut message: Bytes, mut see: impl FnMut(u32, Bytes) -> Result<(), String>) -> Result<(), String> {
    while message.has_remaining() {
        let (number, kind) = decode_key(&mut message).map_err(|error| error.to_string())?;
        if kind == WireType::LengthDelimited {
            let length = decode_varint(&mut message).map_err(|error| error.to_string())?;
            let length = usize::try_from(length).ok().filter(|length| *length <= message.len());
            see(number, message.split_to(length.ok_or("a field is longer than its message")?))?;
        } else {
            let context = DecodeContext::default();
            skip_field(kind, number, &mut message, context).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Raw {
        Raw { content_type: Bytes::from_static(b"text/csv"), data: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn a_body_comes_out_as_it_went_in() {
        let csv = HeaderValue::from_static("text/csv");
        for place in [Place::Whole, Place::Field(7), Place::Field(1000)] {
            let mut wire = Vec::new();
            place.append(Some(&csv), b"a,b", &mut wire);
            assert_eq!(place.read(wire.into()), Ok(body("a,b")), "{place:?}");
        }
        assert_eq!(Place::Field(7).read(Bytes::new()), Ok(Raw::default()));
    }

    #[test]
    fn what_else_a_message_has_is_passed_over_and_the_last_word_counts() {
        let csv = HeaderValue::from_static("text/csv");
        // Field 3, a number; field 4, a text.
        let mut wire = vec![0x18, 0x96, 0x01, 0x22, 0x01, b'x'];
        Place::Field(7).append(Some(&csv), b"old", &mut wire);
        Place::Field(7).append(None, b"new", &mut wire);
        assert_eq!(Place::Field(7).read(wire.into()), Ok(body("new")));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for wire in [&b"\x12\x7f"[..], b"\x12", b"\xff", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert!(Place::Whole.read(Bytes::from_static(wire)).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_type_that_can_not_be_written_is_none() {
        for (named, written) in
            [("text/csv", "text/csv"), ("", "application/octet-stream"), ("a\r\nb: c", "application/octet-stream")]
        {
            let mut headers = HeaderMap::new();
            Raw { content_type: Bytes::from(named), data: Bytes::new() }.label(&mut headers);
            assert_eq!(headers[header::CONTENT_TYPE], written);
        }
    }
}
