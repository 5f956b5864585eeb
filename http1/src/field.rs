//! Header and trailer fields (RFC 9112, section 5), from a buffer straight into a map.
//!
//! A value is a slice of the buffer: it keeps the buffer alive and costs no copy. A name that the `http` crate knows costs
//! nothing; any other is kept once a thread, as it was written, and then shared.

use std::{cell::RefCell, ops::BitOr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    Error,
    scan::{control, is_token},
};

/// What a message's fields may take. A field counts as it stands on the wire: name, colon, space, value, end of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all of them.
    pub total: usize,
    /// How many.
    pub count: usize,
    /// Bytes of one.
    pub one: usize,
}

impl Default for Limits {
    /// 60 KiB, 100, 8 KiB.
    fn default() -> Self {
        Self { total: 60 << 10, count: 100, one: 8 << 10 }
    }
}

/// Parses the fields that begin at `from` and end with the empty line that ends `block`. The map has room for a few more
/// than there are.
///
/// # Errors
/// The first rule that is broken, in the order of the bytes.
pub fn parse(block: &Bytes, from: usize, limits: &Limits, lines: usize) -> Result<HeaderMap, Error> {
    parse_seen(block, from, limits, lines).map(|(headers, _)| headers)
}

/// The same, with what the codec itself asks for: a look into the map costs more than all of this.
pub(crate) fn parse_seen(
    block: &Bytes,
    from: usize,
    limits: &Limits,
    lines: usize,
) -> Result<(HeaderMap, Seen), Error> {
    /// A proxy adds its own.
    const MORE: usize = 8;
    let mut headers = HeaderMap::with_capacity(lines.min(limits.count) + MORE);
    let seen = read(block, from, limits, &mut headers)?;
    Ok((headers, seen))
}

/// Which of the fields are there that say how a message is to be handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(u8);

impl Seen {
    pub const CONTENT_LENGTH: Self = Self(1);
    pub const TRANSFER_ENCODING: Self = Self(1 << 1);
    pub const CONNECTION: Self = Self(1 << 2);
    pub const UPGRADE: Self = Self(1 << 3);
    pub const EXPECT: Self = Self(1 << 4);
    pub const TE: Self = Self(1 << 5);

    fn of(name: &HeaderName) -> Self {
        match *name {
            header::CONTENT_LENGTH => Self::CONTENT_LENGTH,
            header::TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            header::CONNECTION => Self::CONNECTION,
            header::UPGRADE => Self::UPGRADE,
            header::EXPECT => Self::EXPECT,
            header::TE => Self::TE,
            _ => Self::default(),
        }
    }

    /// Whether any of these is there.
    pub fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

impl BitOr for Seen {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

fn read(block: &Bytes, from: usize, limits: &Limits, headers: &mut HeaderMap) -> Result<Seen, Error> {
    let bytes = &block[..];
    let (mut at, mut all) = (from, Seen::default());
    let (mut count, mut total) = (0, 0);
    NAMES.with_borrow_mut(|names| {
        loop {
            match bytes.get(at..).unwrap_or_default() {
                b"\r\n" => return Ok(all),
                [b' ' | b'\t', ..] => return Err(Error::Folded),
                _ => {}
            }
            let colon = name_end(bytes, at)?;
            let name = &bytes[at..colon];
            let end = control(bytes, colon + 1).ok_or(Error::FieldValue)?;
            match (bytes[end], bytes.get(end + 1)) {
                (b'\r', Some(b'\n')) => {}
                (b'\n', _) => return Err(Error::BareLf),
                _ => return Err(Error::FieldValue),
            }
            let (from, to) = trim(bytes, colon + 1, end);
            let size = name.len() + (to - from) + 4;
            total += size;
            count += 1;
            if size > limits.one {
                return Err(Error::FieldTooLong(HeaderName::from_bytes(name).ok()));
            }
            if total > limits.total {
                return Err(Error::FieldsTooLong);
            }
            if count > limits.count {
                return Err(Error::TooManyFields);
            }
            let (name, seen) = names.get(name)?;
            all = all | seen;
            let value = HeaderValue::from_maybe_shared(block.slice(from..to)).map_err(|_| Error::FieldValue)?;
            headers.try_append(name, value).map_err(|_| Error::TooManyFields)?;
            at = end + 2;
        }
    })
}

/// The name of the field that begins a line which is not complete yet, if so much of it is there.
pub(crate) fn name_of(line: &[u8]) -> Option<HeaderName> {
    HeaderName::from_bytes(&line[..name_end(line, 0).ok()?]).ok()
}

fn name_end(bytes: &[u8], from: usize) -> Result<usize, Error> {
    let length = bytes[from..].iter().position(|byte| !is_token(*byte)).ok_or(Error::FieldName)?;
    if length == 0 || bytes[from + length] != b':' {
        return Err(Error::FieldName);
    }
    Ok(from + length)
}

/// Without the whitespace around.
fn trim(bytes: &[u8], mut from: usize, mut to: usize) -> (usize, usize) {
    let is_space = |byte: u8| byte == b' ' || byte == b'\t';
    while from < to && is_space(bytes[from]) {
        from += 1;
    }
    while from < to && is_space(bytes[to - 1]) {
        to -= 1;
    }
    (from, to)
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

/// Names by how they were written. A name's place follows from its bytes, and the last one seen takes it: whoever sends
/// ever new names makes them cost what they would cost without the table, and nothing grows.
struct Names(Vec<Option<Known>>);

struct Known {
    written: Box<[u8]>,
    name: HeaderName,
    seen: Seen,
}

impl Default for Names {
    fn default() -> Self {
        Self((0..Self::PLACES).map(|_| None).collect())
    }
}

impl Names {
    const PLACES: usize = 256;
    /// Names longer than this are not kept.
    const LONGEST: usize = 48;

    fn get(&mut self, written: &[u8]) -> Result<(HeaderName, Seen), Error> {
        let place = &mut self.0[Self::place(written)];
        if let Some(known) = place
            && *known.written == *written
        {
            return Ok((known.name.clone(), known.seen));
        }
        let name = HeaderName::from_bytes(written).map_err(|_| Error::FieldName)?;
        let seen = Seen::of(&name);
        if written.len() <= Self::LONGEST {
            *place = Some(Known { written: written.into(), name: name.clone(), seen });
        }
        Ok((name, seen))
    }

    fn place(written: &[u8]) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let ends = match (written.first_chunk(), written.last_chunk()) {
            (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
            _ => written.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        ((ends ^ written.len() as u64).wrapping_mul(ODD) >> (u64::BITS - Self::PLACES.ilog2())) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(block: &str) -> Result<HeaderMap, Error> {
        parse(&Bytes::from(block.to_owned()), 0, &Limits::default(), 4)
    }

    #[test]
    fn fields_keep_their_order_and_lose_the_whitespace_around() {
        let headers = parsed("Host: a\r\nX-A:1\r\nx-a: \t 2 \t\r\nEmpty:\r\nUtf: \u{e9}\r\n\r\n").unwrap();
        assert_eq!(headers["host"], "a");
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers["empty"], "");
        assert_eq!(headers["utf"].as_bytes(), "\u{e9}".as_bytes());
        assert_eq!(parsed("\r\n").unwrap().len(), 0);
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for (block, why) in [
            ("a : b\r\n\r\n", Error::FieldName),
            ("a\t: b\r\n\r\n", Error::FieldName),
            (": b\r\n\r\n", Error::FieldName),
            ("a\r\n\r\n", Error::FieldName),
            ("a b: c\r\n\r\n", Error::FieldName),
            ("a\"b: c\r\n\r\n", Error::FieldName),
            ("\u{e9}: c\r\n\r\n", Error::FieldName),
            ("a\0: c\r\n\r\n", Error::FieldName),
            (" a: b\r\n\r\n", Error::Folded),
            ("a: b\r\n c\r\n\r\n", Error::Folded),
            ("a: b\r\n\tc\r\n\r\n", Error::Folded),
            ("a: b\r\n \r\n\r\n", Error::Folded),
            ("a: b\0c\r\n\r\n", Error::FieldValue),
            ("a: b\x0bc\r\n\r\n", Error::FieldValue),
            ("a: b\x7f\r\n\r\n", Error::FieldValue),
            ("a: b\rc\r\n\r\n", Error::FieldValue),
            ("a: b\r\r\n\r\n", Error::FieldValue),
            ("a: b\nc: d\r\n\r\n", Error::BareLf),
            ("a: b", Error::FieldValue),
            ("", Error::FieldName),
            ("\r\nmore", Error::FieldName),
        ] {
            assert_eq!(parsed(block), Err(why), "{block:?}");
        }
    }

    #[test]
    fn each_limit_has_an_error_of_its_own() {
        let limits = Limits { total: 40, count: 3, one: 20 };
        let parsed = |block: &str| parse(&Bytes::from(block.to_owned()), 0, &limits, 1).map(|headers| headers.len());
        assert_eq!(parsed("abcd: 0123456789ab\r\n\r\n"), Ok(1));
        let long = Error::FieldTooLong(Some(HeaderName::from_static("abcd")));
        assert_eq!(parsed("abcd: 0123456789abc\r\n\r\n"), Err(long));
        assert_eq!(parsed("a:1\r\nb:2\r\nc:3\r\n\r\n"), Ok(3));
        assert_eq!(parsed("a:1\r\nb:2\r\nc:3\r\nd:4\r\n\r\n"), Err(Error::TooManyFields));
        assert_eq!(parsed("a:0123456789\r\nb:0123456789\r\nc:0123456789\r\n\r\n"), Err(Error::FieldsTooLong));
    }

    #[test]
    fn what_says_how_to_handle_a_message_is_noticed_every_time() {
        for _ in 0..2 {
            let block = Bytes::from("a: b\r\nTRANSFER-encoding: chunked\r\nte: trailers\r\n\r\n");
            let (_, seen) = parse_seen(&block, 0, &Limits::default(), 3).unwrap();
            assert_eq!(seen, Seen::TRANSFER_ENCODING | Seen::TE);
            assert!(seen.has(Seen::CONTENT_LENGTH | Seen::TE) && !seen.has(Seen::CONNECTION | Seen::UPGRADE));
        }
    }

    #[test]
    fn a_name_is_kept_once_however_often_it_comes() {
        let mut names = Names::default();
        let custom: Vec<_> = (0..3).map(|_| names.get(b"X-Shop-Tenant").unwrap().0).collect();
        assert_eq!(custom[0], "x-shop-tenant");
        assert!(custom.iter().all(|name| std::ptr::eq(name.as_str(), custom[0].as_str())), "one allocation");
        assert_eq!(names.get(b"HOST").unwrap().0, header::HOST);
        assert_eq!(names.get(b"x-shop-tenant").unwrap().0, custom[0], "another writing is the same name");
    }

    proptest! {
        #[test]
        fn names_do_not_get_mixed_up(written in prop::collection::vec("[a-cA-C-]{1,20}", 1..600)) {
            let mut names = Names::default();
            for written in written {
                let (name, _) = names.get(written.as_bytes()).unwrap();
                prop_assert_eq!(name.as_str(), written.to_ascii_lowercase());
            }
        }

        #[test]
        fn anything_at_all_is_parsed_or_refused(block in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = parse(&Bytes::from(block), 0, &Limits::default(), 0);
        }
    }
}
