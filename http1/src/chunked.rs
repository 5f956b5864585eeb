//! The chunked transfer coding (RFC 9112, section 7.1), taken strictly: sizes are bare hexadecimal digits, lines end with
//! CR LF, and nothing stands between a chunk's last byte and its end.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};

use crate::{Error, Scanner, field};

/// Digits of a size: as many as 64 bits have.
const DIGITS: usize = 16;
/// Bytes of a chunk's extensions, which nobody reads.
const EXTENSIONS: usize = 256;
/// Bytes of all extensions of a body: they could be sent forever with hardly a byte of data.
const ALL_EXTENSIONS: usize = 16 << 10;

/// Takes a chunked body apart.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    extensions: usize,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers(Scanner),
    End,
}

/// What came next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Never empty; a chunk may come in pieces.
    Data(Bytes),
    /// The fields after the last chunk. Those that a trailer may not bring are gone, so it may be empty.
    Trailers(HeaderMap),
    /// The body is over; what remains is not its own. Said again however often it is asked.
    End,
    /// Nothing until more bytes are there.
    More,
}

impl Decoder {
    /// Takes the next step off `input`. `trailers` bounds those.
    ///
    /// # Errors
    /// The first rule that is broken; the decoder is of no use afterwards.
    pub fn decode(&mut self, input: &mut BytesMut, trailers: &field::Limits) -> Result<Step, Error> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some((size, line)) = self.size(input)? else { return Ok(Step::More) };
                    input.advance(line);
                    self.state = if size == 0 { State::Trailers(Scanner::default()) } else { State::Data(size) };
                }
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(Step::More);
                    }
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Step::Data(input.split_to(length).freeze()));
                }
                State::DataEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::More),
                    _ => return Err(Error::ChunkEnd),
                },
                State::Trailers(scanner) => {
                    // What is beyond the bound is not looked at, so that it can't matter how much came at once.
                    let Some(end) = scanner.end(&input[..input.len().min(trailers.total)])? else {
                        return if input.len() > trailers.total { Err(Error::FieldsTooLong) } else { Ok(Step::More) };
                    };
                    let lines = scanner.lines();
                    self.state = State::End;
                    let block = input.split_to(end).freeze();
                    if lines > 0 {
                        return field::parse(&block, 0, trailers, lines).map(|fields| Step::Trailers(allowed(fields)));
                    }
                }
                State::End => return Ok(Step::End),
            }
        }
    }

    pub fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// The size a line states, and how long the line is.
    fn size(&mut self, input: &[u8]) -> Result<Option<(u64, usize)>, Error> {
        let (mut size, mut at) = (0_u64, 0);
        while let Some(digit) = input.get(at).and_then(|byte| char::from(*byte).to_digit(16)) {
            if at == DIGITS {
                return Err(Error::ChunkSize);
            }
            size = size << 4 | u64::from(digit);
            at += 1;
        }
        match &input[at..] {
            [] => return Ok(None),
            _ if at == 0 => return Err(Error::ChunkSize),
            [b'\r', b'\n', ..] => return Ok(Some((size, at + 2))),
            [b'\r'] => return Ok(None),
            [b';', ..] => {}
            _ => return Err(Error::ChunkSize),
        }
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        let length = input[at..].iter().take(EXTENSIONS + 1).position(is_control);
        match length {
            Some(length) => match &input[at + length..] {
                [b'\r', b'\n', ..] if self.extensions + length <= ALL_EXTENSIONS => {
                    self.extensions += length;
                    Ok(Some((size, at + length + 2)))
                }
                [b'\r'] => Ok(None),
                _ => Err(Error::ChunkExtension),
            },
            None if input.len() - at <= EXTENSIONS => Ok(None),
            None => Err(Error::ChunkExtension),
        }
    }
}

/// What no trailer may bring, because it says where a message ends, where it goes, who sent it or how to read it: all that
/// has been decided when a trailer comes (RFC 9110, section 6.5.1).
pub const NOT_IN_TRAILERS: [HeaderName; 27] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::FORWARDED,
    header::VIA,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::CACHE_CONTROL,
    header::LOCATION,
    header::ORIGIN,
    header::DATE,
];

fn allowed(mut fields: HeaderMap) -> HeaderMap {
    for name in &NOT_IN_TRAILERS {
        fields.remove(name);
    }
    fields
}

/// Writes the line that begins a chunk of so many bytes, of which there must be some. After them comes [`CHUNK_END`].
pub fn write_size(out: &mut Vec<u8>, size: usize) {
    debug_assert!(size > 0, "an empty chunk would end the body");
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (place * 4) & 0xf]);
    }
    out.extend_from_slice(CHUNK_END);
}

pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a body without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Writes what ends a body with these trailers.
pub fn write_last(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    crate::encode::fields(out, trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: field::Limits = field::Limits { total: 1024, count: 4, one: 256 };

    /// Data, trailers and the rest.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// With the input coming in pieces cut where they say.
    fn decoded(input: &[u8], cuts: &[usize]) -> Result<Decoded, Error> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| *cut.min(&input.len())).collect();
        cuts.sort_unstable();
        cuts.push(input.len());
        let (mut decoder, mut buffer, mut fed) = (Decoder::default(), BytesMut::new(), 0);
        let (mut data, mut trailers) = (Vec::new(), None);
        for cut in cuts {
            buffer.extend_from_slice(&input[fed..cut]);
            fed = cut;
            loop {
                match decoder.decode(&mut buffer, &LIMITS)? {
                    Step::Data(bytes) => data.extend_from_slice(&bytes),
                    Step::Trailers(fields) => trailers = Some(fields),
                    Step::More => break,
                    Step::End => {
                        buffer.extend_from_slice(&input[fed..]);
                        return Ok((data, trailers, buffer.to_vec()));
                    }
                }
            }
        }
        Ok((data, trailers, b"incomplete".to_vec()))
    }

    #[test]
    fn a_body_is_what_its_chunks_hold() {
        let (data, trailers, rest) = decoded(b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET", &[]).unwrap();
        assert_eq!((&data[..], trailers, &rest[..]), (&b"abc0123456789"[..], None, &b"GET"[..]));
    }

    #[test]
    fn trailers_are_fields_without_those_that_come_too_late() {
        let body = b"0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nAuthorization: x\r\n\r\n";
        let (_, trailers, rest) = decoded(body, &[]).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((trailers.len(), &trailers["grpc-status"], rest.len()), (1, &"0".parse().unwrap(), 0));
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for (body, why) in [
            ("\r\n", Error::ChunkSize),
            ("g\r\n", Error::ChunkSize),
            ("0x1\r\na\r\n", Error::ChunkSize),
            ("-1\r\na\r\n", Error::ChunkSize),
            ("+1\r\na\r\n", Error::ChunkSize),
            (" 1\r\na\r\n", Error::ChunkSize),
            ("1 \r\na\r\n", Error::ChunkSize),
            ("1 ;x\r\na\r\n", Error::ChunkSize),
            ("1\na\r\n", Error::ChunkSize),
            ("1\r\r\na\r\n", Error::ChunkSize),
            ("00000000000000001\r\na\r\n", Error::ChunkSize),
            ("1;x\na\r\n", Error::ChunkExtension),
            ("1;\0\r\na\r\n", Error::ChunkExtension),
            ("1;x\ry\r\na\r\n", Error::ChunkExtension),
            ("1\r\nab\r\n", Error::ChunkEnd),
            ("1\r\na\n0\r\n\r\n", Error::ChunkEnd),
            ("1\r\na\r0\r\n\r\n", Error::ChunkEnd),
            ("0\r\n\n", Error::BareLf),
            ("0\r\na : b\r\n\r\n", Error::FieldName),
            ("0\r\n a: b\r\n\r\n", Error::Folded),
            ("0\r\na: b\n\r\n", Error::BareLf),
        ] {
            assert_eq!(decoded(body.as_bytes(), &[]), Err(why), "{body:?}");
        }
    }

    #[test]
    fn nothing_in_it_is_without_bound() {
        let long = format!("1;{}\r\na\r\n", "x".repeat(EXTENSIONS));
        assert_eq!(decoded(long.as_bytes(), &[]), Err(Error::ChunkExtension));
        let many = format!("1;{}\r\na\r\n", "x".repeat(EXTENSIONS - 1)).repeat(65);
        assert_eq!(decoded(many.as_bytes(), &[]), Err(Error::ChunkExtension));
        let trailers = format!("0\r\na: {}\n\r\n", "x".repeat(LIMITS.total));
        assert_eq!(decoded(trailers.as_bytes(), &[]), Err(Error::FieldsTooLong), "whatever comes behind it");
        assert_eq!(decoded(trailers.as_bytes(), &[LIMITS.total + 10]), Err(Error::FieldsTooLong));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(200));
        assert_eq!(decoded(trailers.as_bytes(), &[]), Err(Error::FieldsTooLong));
        assert_eq!(decoded(b"0\r\na:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\n\r\n", &[]), Err(Error::TooManyFields));
    }

    fn encoded(chunks: &[Vec<u8>], trailers: Option<&HeaderMap>) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            write_size(&mut out, chunk.len());
            out.extend_from_slice(chunk);
            out.extend_from_slice(CHUNK_END);
        }
        match trailers {
            Some(trailers) => write_last(&mut out, trailers),
            None => out.extend_from_slice(LAST),
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            value in "[ -~]{0,20}",
            cuts in prop::collection::vec(0usize..300, 0..8),
        ) {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", value.trim().parse().unwrap());
            let mut input = encoded(&chunks, Some(&trailers));
            input.extend_from_slice(b"next");
            let (data, read, rest) = decoded(&input, &cuts).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(read, Some(trailers));
            prop_assert_eq!(rest, b"next");
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            input in "([0-9a-fA-F]{0,2};?\r?\n?[a-z: ]{0,3}\r?\n?){0,5}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            prop_assert_eq!(decoded(input.as_bytes(), &cuts), decoded(input.as_bytes(), &[]));
        }
    }
}
