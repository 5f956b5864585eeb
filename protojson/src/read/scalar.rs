//! Numbers, names and bytes from JSON, exactly or not at all.

use base64::Engine as _;

use super::{
    Reader, Step, Unread,
    scan::{Number, Raw},
};
use crate::{
    dynamic::text,
    table::{Enum, Kind},
    wire::{self, Tag},
};

/// A whole number: whether there is a minus, and what follows it.
#[derive(Clone, Copy)]
struct Whole {
    negative: bool,
    magnitude: u64,
}

impl Reader<'_> {
    /// Appends a number, a truth value or an enum's value. A zero is left out where it need not be kept.
    pub(super) fn number(&mut self, kind: Kind, tag: Tag, keep: bool) -> Step {
        let bits = match kind {
            Kind::Bool => u64::from(self.json.boolean()?),
            Kind::Float => u64::from(narrow(self.float()?)?.to_bits()),
            Kind::Double => self.float()?.to_bits(),
            Kind::Enum(place) => {
                let tables = self.tables;
                self.enumeration(&tables.enums[place])?.signed(32)? as u64
            }
            kind => self.whole()?.bits(kind)?,
        };
        self.put_number(kind, tag, bits, keep);
        Ok(())
    }

    /// Appends a map's key, which is a string whatever its kind.
    pub(super) fn key(&mut self, kind: Kind, tag: Tag) -> Step {
        let raw = self.json.string()?;
        let bits = match kind {
            Kind::String => return self.put_string(raw, tag, true),
            Kind::Bool => match raw.plain()? {
                b"true" => 1,
                b"false" => 0,
                _ => return Err(Unread),
            },
            kind => Whole::parse(raw.plain()?).ok_or(Unread)?.bits(kind)?,
        };
        self.put_number(kind, tag, bits, true);
        Ok(())
    }

    pub(super) fn put_string(&mut self, raw: Raw<'_>, tag: Tag, keep: bool) -> Step {
        if raw.text.is_empty() && !keep {
            return Ok(());
        }
        tag.put(self.wire);
        if !raw.is_escaped {
            wire::put_varint(self.wire, raw.text.len() as u64);
            self.wire.extend_from_slice(raw.text);
            return Ok(());
        }
        let start = wire::begin(self.wire);
        raw.put(self.wire)?;
        wire::end(self.wire, start);
        Ok(())
    }

    pub(super) fn put_bytes(&mut self, raw: Raw<'_>, tag: Tag, keep: bool) -> Step {
        let encoded = raw.plain()?;
        if encoded.is_empty() && !keep {
            return Ok(());
        }
        tag.put(self.wire);
        let start = wire::begin(self.wire);
        self.wire.resize(start + encoded.len() / 4 * 3 + 3, 0);
        let decoded = text::base64_of(encoded).decode_slice(encoded, &mut self.wire[start..]).map_err(|_| Unread)?;
        self.wire.truncate(start + decoded);
        wire::end(self.wire, start);
        Ok(())
    }

    fn put_number(&mut self, kind: Kind, tag: Tag, bits: u64, keep: bool) {
        if bits == 0 && !keep {
            return;
        }
        tag.put(self.wire);
        match kind {
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => self.wire.extend_from_slice(&bits.to_le_bytes()),
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => self.wire.extend_from_slice(&(bits as u32).to_le_bytes()),
            Kind::Sint32 | Kind::Sint64 => wire::put_varint(self.wire, bits << 1 ^ (bits as i64 >> 63) as u64),
            _ => wire::put_varint(self.wire, bits),
        }
    }

    fn whole(&mut self) -> Step<Whole> {
        if self.json.peek() == b'"' {
            return Whole::parse(self.json.string()?.plain()?).ok_or(Unread);
        }
        Whole::of(self.json.number()?)
    }

    pub(super) fn float(&mut self) -> Step<f64> {
        if self.json.peek() != b'"' {
            return float(self.json.number()?);
        }
        match self.json.string()?.plain()? {
            b"NaN" => Ok(f64::NAN),
            b"Infinity" => Ok(f64::INFINITY),
            b"-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(Unread),
        }
    }

    fn enumeration(&mut self, table: &Enum) -> Step<Whole> {
        match self.json.peek() {
            b'"' => {
                let name = self.json.string()?.plain()?;
                let named = table.number(name).map(|number| Whole::from(i64::from(number)));
                named.or_else(|| Whole::parse(name)).ok_or(Unread)
            }
            b'n' if table.is_null => self.json.word(b"null").map(|()| Whole::from(0)),
            _ => Whole::of(self.json.number()?),
        }
    }
}

impl Whole {
    fn of(number: Number<'_>) -> Step<Self> {
        if number.is_whole {
            return Self::parse(number.text).ok_or(Unread);
        }
        // `1e3` and `2.0`, as long as every whole number of that size is a double.
        let exact: i64 = text::exactly(float(number)?).ok_or(Unread)?;
        Ok(Self::from(exact))
    }

    #[inline]
    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.is_empty() {
            return None;
        }
        let mut magnitude = 0_u64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        Some(Self { negative, magnitude })
    }

    fn bits(self, kind: Kind) -> Step<u64> {
        match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => self.signed(32).map(|value| value as u64),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => self.signed(64).map(|value| value as u64),
            Kind::Uint32 | Kind::Fixed32 if self.magnitude > u64::from(u32::MAX) => Err(Unread),
            Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 if !self.negative => Ok(self.magnitude),
            _ => Err(Unread),
        }
    }

    fn signed(self, bits: u32) -> Step<i64> {
        let limit = 1_u64 << (bits - 1);
        match self.negative {
            false if self.magnitude < limit => Ok(self.magnitude as i64),
            true if self.magnitude <= limit => Ok((self.magnitude as i64).wrapping_neg()),
            _ => Err(Unread),
        }
    }
}

impl From<i64> for Whole {
    fn from(value: i64) -> Self {
        Self { negative: value < 0, magnitude: value.unsigned_abs() }
    }
}

fn float(number: Number<'_>) -> Step<f64> {
    let text = std::str::from_utf8(number.text).map_err(|_| Unread)?;
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Unread)
}

fn narrow(value: f64) -> Step<f32> {
    text::narrow(value).map_err(|_| Unread)
}
