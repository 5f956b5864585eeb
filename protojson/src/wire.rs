//! The wire format (<https://protobuf.dev/programming-guides/encoding/>): tags, varints, lengths.

/// How deep messages may nest by the tables. Below [`DECODED`], so that the dynamic path decides.
pub const NESTING: usize = 90;

/// How deep messages may nest for decoders.
pub const DECODED: usize = 100;

/// A field's number with its wire type, encoded; of the elements of a packed list it is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tag {
    bytes: [u8; 5],
    len: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

impl Tag {
    pub fn new(number: u32, wire_type: WireType) -> Self {
        let mut bytes = Vec::with_capacity(5);
        put_varint(&mut bytes, u64::from(number << 3 | wire_type as u32));
        let mut tag = Self { bytes: [0; 5], len: 0 };
        for (place, byte) in tag.bytes.iter_mut().zip(bytes) {
            *place = byte;
            tag.len += 1;
        }
        tag
    }

    pub fn put(self, wire: &mut Vec<u8>) {
        if self.len == 1 {
            wire.push(self.bytes[0]);
        } else {
            wire.extend_from_slice(&self.bytes[..usize::from(self.len)]);
        }
    }
}

pub fn put_varint(wire: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        wire.push(value as u8 | 0x80);
        value >>= 7;
    }
    wire.push(value as u8);
}

/// Begins what is preceded by its length. Most lengths need one byte, and one is kept free.
pub fn begin(wire: &mut Vec<u8>) -> usize {
    wire.push(0);
    wire.len()
}

/// Ends what [`begin`] began at `start`, and says where it starts now.
pub fn end(wire: &mut Vec<u8>, start: usize) -> usize {
    let len = wire.len() - start;
    if len < 0x80 {
        wire[start - 1] = len as u8;
        return start;
    }
    let more = varint_len(len as u64) - 1;
    wire.resize(wire.len() + more, 0);
    wire.copy_within(start..start + len, start + more);
    let mut rest = len;
    for byte in &mut wire[start - 1..start - 1 + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    wire[start - 1 + more] = rest as u8;
    start + more
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads encoded fields one after the other.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
}

/// The bytes are no message.
#[derive(Debug)]
pub struct Broken;

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Broken> {
        match self.bytes {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            // The tenth has but one bit left to say.
            if index == 9 && *byte > 1 {
                return Err(Broken);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// A field's number, and its wire type, which may be one that is none.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u8), Broken> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Broken)?;
        if tag < 8 { Err(Broken) } else { Ok((tag >> 3, tag as u8 & 7)) }
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(Broken)?;
        self.bytes = rest;
        Ok(*array)
    }

    #[inline]
    pub fn slice(&mut self) -> Result<&'a [u8], Broken> {
        let len = usize::try_from(self.varint()?).map_err(|_| Broken)?;
        let (slice, rest) = self.bytes.split_at_checked(len).ok_or(Broken)?;
        self.bytes = rest;
        Ok(slice)
    }

    /// Passes over the value of a field that is not known. A group is left to those who know more of them.
    pub fn skip(&mut self, wire_type: u8) -> Result<(), Broken> {
        match wire_type {
            0 => self.varint().map(|_| ()),
            1 => self.array::<8>().map(|_| ()),
            2 => self.slice().map(|_| ()),
            5 => self.array::<4>().map(|_| ()),
            _ => Err(Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_the_room_it_needs() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let mut wire = b"before".to_vec();
            let start = begin(&mut wire);
            wire.extend((0..len).map(|index| index as u8));
            let start = end(&mut wire, start);
            let mut cursor = Cursor::new(&wire[6..]);
            let content = cursor.slice().unwrap();
            assert!(cursor.is_empty());
            assert_eq!(content.len(), len);
            assert!(content.iter().enumerate().all(|(index, byte)| *byte == index as u8));
            assert_eq!(&wire[start..], content);
        }
    }

    #[test]
    fn varints_come_back_and_end_at_ten_bytes() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut wire = Vec::new();
            put_varint(&mut wire, value);
            assert_eq!(wire.len(), varint_len(value));
            assert_eq!(Cursor::new(&wire).varint().unwrap(), value);
        }
        assert!(Cursor::new(&[0xff; 11]).varint().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint().is_err());
        assert!(Cursor::new(&[0x80]).varint().is_err());
    }
}
