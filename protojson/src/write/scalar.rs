//! Numbers, strings and bytes as JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Step, Unwritten, Writer};
use crate::{
    plain,
    table::{Field, Kind},
    wire::Cursor,
};

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Writer<'_> {
    /// Appends a number, a truth value or an enum's value.
    pub(super) fn number(&mut self, kind: Kind, cursor: &mut Cursor<'_>) -> Step {
        match kind {
            Kind::Int32 => self.whole(cursor.varint()? as i32),
            Kind::Int64 => self.quoted(cursor.varint()? as i64),
            Kind::Uint32 => self.whole(cursor.varint()? as u32),
            Kind::Uint64 => self.quoted(cursor.varint()?),
            Kind::Sint32 => {
                let value = cursor.varint()? as u32;
                self.whole((value >> 1) as i32 ^ -((value & 1) as i32));
            }
            Kind::Sint64 => {
                let value = cursor.varint()?;
                self.quoted((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            Kind::Fixed32 => self.whole(u32::from_le_bytes(cursor.array()?)),
            Kind::Fixed64 => self.quoted(u64::from_le_bytes(cursor.array()?)),
            Kind::Sfixed32 => self.whole(i32::from_le_bytes(cursor.array()?)),
            Kind::Sfixed64 => self.quoted(i64::from_le_bytes(cursor.array()?)),
            Kind::Float => {
                let value = f32::from_le_bytes(cursor.array()?);
                self.float(value, f64::from(value));
            }
            Kind::Double => {
                let value = f64::from_le_bytes(cursor.array()?);
                self.float(value, value);
            }
            Kind::Bool => self.json.extend_from_slice(if cursor.varint()? != 0 { b"true" } else { b"false" }),
            Kind::Enum(place) => {
                let (number, tables) = (cursor.varint()? as i32, self.tables);
                let table = &tables.enums[place];
                match table.shown(number) {
                    _ if table.is_null => self.json.extend_from_slice(b"null"),
                    Some(name) => self.json.extend_from_slice(name),
                    None => self.whole(number),
                }
            }
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group => return Err(Unwritten::Unusual),
        }
        Ok(())
    }

    /// Appends a map's key, which is a string whatever its kind.
    pub(super) fn key(&mut self, kind: Kind, wire_type: u8, cursor: &mut Cursor<'_>) -> Step {
        let is_quoted =
            matches!(kind, Kind::String | Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64);
        if is_quoted {
            return self.value(kind, wire_type, cursor);
        }
        self.json.push(b'"');
        self.value(kind, wire_type, cursor)?;
        self.json.push(b'"');
        Ok(())
    }

    pub(super) fn default_key(&mut self, key: &Field) -> Step {
        match key.kind {
            Kind::String => self.json.extend_from_slice(b"\"\""),
            Kind::Bool => self.json.extend_from_slice(b"\"false\""),
            _ => self.json.extend_from_slice(b"\"0\""),
        }
        Ok(())
    }

    pub(super) fn string(&mut self, bytes: &[u8]) -> Step {
        std::str::from_utf8(bytes).map_err(|_| Unwritten::Unusual)?;
        self.json.push(b'"');
        let mut rest = bytes;
        loop {
            let (plain, special) = rest.split_at(plain::len(rest));
            self.json.extend_from_slice(plain);
            let Some((byte, after)) = special.split_first() else { break };
            rest = after;
            let escape = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                0x08 => b"\\b",
                0x0c => b"\\f",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                _ => {
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                    self.json.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                    continue;
                }
            };
            self.json.extend_from_slice(escape);
        }
        self.json.push(b'"');
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Step {
        self.json.push(b'"');
        let start = self.json.len();
        self.json.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let encoded = STANDARD.encode_slice(bytes, &mut self.json[start..]).map_err(|_| Unwritten::Unusual)?;
        self.json.truncate(start + encoded);
        self.json.push(b'"');
        Ok(())
    }

    fn whole(&mut self, value: impl itoa::Integer) {
        self.json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// 64 bits are more than every reader of JSON has for a number.
    fn quoted(&mut self, value: impl itoa::Integer) {
        self.json.push(b'"');
        self.whole(value);
        self.json.push(b'"');
    }

    fn float(&mut self, shown: impl zmij::Float, value: f64) {
        let text: &[u8] = match value {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ if value.is_nan() => b"\"NaN\"",
            _ => return self.json.extend_from_slice(zmij::Buffer::new().format_finite(shown).as_bytes()),
        };
        self.json.extend_from_slice(text);
    }
}
