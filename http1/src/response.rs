//! The head of a response, from the bytes it came in.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::{Error, Length, Scanner, field, length, request::is_persistent};

/// Bytes of the first line that are nobody's fields.
const LINE: usize = 1024;
const PROTOCOL: &[u8] = b"HTTP/1.";

/// A response but for its body.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    /// Of the body that follows.
    pub length: Length,
    /// The connection takes no request after this one.
    pub is_last: bool,
}

/// Parses one head; the next one takes another parser.
#[derive(Debug, Default)]
pub struct Parser {
    scanner: Scanner,
}

impl Parser {
    /// Takes a head off `input` once all of it is there. `request` is the method it answers.
    ///
    /// # Errors
    /// The first rule that is broken, as soon as it is certain.
    pub fn parse(
        &mut self,
        input: &mut BytesMut,
        request: &Method,
        limits: &field::Limits,
    ) -> Result<Option<Head>, Error> {
        // Whoever speaks something else may never send a line.
        let begun = input.len().min(PROTOCOL.len());
        if input[..begun] != PROTOCOL[..begun] {
            return Err(Error::StatusLine);
        }
        // What is beyond the bound is not looked at, so that it can't matter how much came at once.
        let bound = limits.total.saturating_add(LINE);
        let Some(end) = self.scanner.end(&input[..input.len().min(bound)])? else {
            return if input.len() > bound { Err(Error::FieldsTooLong) } else { Ok(None) };
        };
        let head = input.split_to(end).freeze();
        let (version, status, fields) = status_line(&head)?;
        let lines = self.scanner.lines().saturating_sub(1);
        let headers = field::parse(&head, fields, limits, lines)?;
        let length = length::of_response(request, status, version, &headers)?;
        let is_last = length == Length::UntilClose || !is_persistent(version, &headers);
        Ok(Some(Head { status, version, headers, length, is_last }))
    }
}

/// The version, the status, and where the fields begin. The reason is skipped: it is for nobody.
fn status_line(head: &[u8]) -> Result<(Version, StatusCode, usize), Error> {
    let Some((line, rest)) = head[PROTOCOL.len()..].split_first_chunk() else { return Err(Error::StatusLine) };
    let [minor, b' ', digits @ ..]: &[u8; 5] = line else { return Err(Error::StatusLine) };
    let version = match minor {
        b'0' => Version::HTTP_10,
        b'1' => Version::HTTP_11,
        b'2'..=b'9' => return Err(Error::Version),
        _ => return Err(Error::StatusLine),
    };
    let status = StatusCode::from_bytes(digits).map_err(|_| Error::StatusLine)?;
    // Many send no space where they have no reason.
    let reason = match rest {
        [b' ', reason @ ..] => reason,
        [b'\r', ..] => rest,
        _ => return Err(Error::StatusLine),
    };
    let begun = head.len() - reason.len();
    let is_end = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    match reason.iter().position(is_end).map(|at| (begun + at, &reason[at..])) {
        Some((_, rest)) if !rest.starts_with(b"\r\n") => Err(Error::StatusLine),
        Some((end, _)) if end <= LINE => Ok((version, status, end + 2)),
        _ => Err(Error::StatusLine),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Option<Head>, Error> {
        Parser::default().parse(&mut BytesMut::from(text), &Method::GET, &field::Limits::default())
    }

    fn head(text: &str) -> Head {
        parsed(text).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_its_status_and_its_fields() {
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok");
        let head = Parser::default().parse(&mut input, &Method::GET, &field::Limits::default()).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.version, head.length), (200, Version::HTTP_11, Length::Exact(2)));
        assert_eq!((&head.headers["x-a"], head.is_last), (&"b".parse().unwrap(), false));
        assert_eq!(&input[..], b"ok");
    }

    #[test]
    fn the_reason_may_be_anything_or_missing() {
        for line in ["HTTP/1.1 404 Not Found", "HTTP/1.1 404 ", "HTTP/1.1 404", "HTTP/1.1 404 \u{e9}\t!"] {
            assert_eq!(head(&format!("{line}\r\nA: b\r\n\r\n")).headers["a"], "b", "{line}");
        }
    }

    #[test]
    fn the_version_and_connection_say_whether_another_request_may_come() {
        for (text, is_last) in [
            ("HTTP/1.1 204 x\r\n\r\n", false),
            ("HTTP/1.1 204 x\r\nConnection: close\r\n\r\n", true),
            ("HTTP/1.1 204 x\r\nConnection: x, Close\r\n\r\n", true),
            ("HTTP/1.1 204 x\r\nConnection: x\r\nConnection: close\r\n\r\n", true),
            ("HTTP/1.1 204 x\r\nConnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.0 204 x\r\n\r\n", true),
            ("HTTP/1.0 204 x\r\nConnection: Keep-Alive\r\n\r\n", false),
            ("HTTP/1.0 204 x\r\nConnection: keep-alive, close\r\n\r\n", true),
            ("HTTP/1.1 200 x\r\n\r\n", true),
            ("HTTP/1.0 200 x\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(head(text).is_last, is_last, "{text:?}");
        }
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for (text, why) in [
            ("HTTP/2 200\r\n\r\n", Error::StatusLine),
            ("HTTP/1.2 200\r\n\r\n", Error::Version),
            ("HTTP/1.1  200 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 +20 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1\t200 OK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 200 O\0K\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 200 O\rK\r\n\r\n", Error::StatusLine),
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", Error::BareLf),
            ("HTTP/1.1 200 OK\r\nA: b\n\n", Error::BareLf),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Error::StatusLine),
            ("http/1.1 200 OK\r\n\r\n", Error::StatusLine),
            ("\x16\x03\x01", Error::StatusLine),
            ("SSH-2.0", Error::StatusLine),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Error::Folded),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Error::Folded),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Error::FieldName),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Error::ContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Error::LengthAndCoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Error::CodingNotKnown),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Error::CodingOnHttp10),
        ] {
            assert_eq!(parsed(text).err(), Some(why), "{text:?}");
        }
    }

    #[test]
    fn a_head_has_a_bound_whether_it_ends_or_not() {
        let limits = field::Limits { total: 4096, count: 100, one: 4096 };
        for text in
            [format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(1000)), format!("HTTP/1.1 200 {}", "x".repeat(6000))]
        {
            let parsed = Parser::default().parse(&mut BytesMut::from(&text[..]), &Method::GET, &limits);
            assert_eq!(parsed.err(), Some(Error::FieldsTooLong));
        }
        assert_eq!(parsed(&format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(2000))).err(), Some(Error::StatusLine));
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_however_it_is_cut(
            text in "HTTP/1\\.[01] [1-5][0-9][0-9]( [A-Z ]{0,4})?\r\n(([A-Z]{1,3}|Connection|Content-Length): ?[0-9a-z]{0,3}\r\n){0,5}\r?\n?",
            cuts in prop::collection::vec(0usize..80, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut parser, mut input, mut fed) = (Parser::default(), BytesMut::new(), 0);
            let mut result = Ok(None);
            for cut in cuts {
                input.extend_from_slice(&text.as_bytes()[fed..cut]);
                fed = cut;
                result = parser.parse(&mut input, &Method::GET, &field::Limits::default());
                if !matches!(result, Ok(None)) {
                    break;
                }
            }
            prop_assert_eq!(format!("{result:?}"), format!("{:?}", parsed(&text)));
        }
    }
}
