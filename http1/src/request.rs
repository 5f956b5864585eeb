//! The head of a request (RFC 9112, sections 2 and 3).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version, header};

use crate::{
    Error, Scanner,
    field::{self, Seen},
    scan::is_token,
};

/// No method there is is longer.
const METHOD: usize = 32;
/// What a request line holds beside its target.
const AROUND_TARGET: usize = METHOD + " HTTP/1.1\r\n".len() + 1;
/// What whitespace around values, and other empty forms, may add to a head.
const SLACK: usize = 1 << 10;

/// What a request's head may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the target. The `http` crate's own limit is just below 64 KiB.
    pub target: usize,
    pub fields: field::Limits,
}

impl Default for Limits {
    /// 8 KiB, and those of fields.
    fn default() -> Self {
        Self { target: 8 << 10, fields: field::Limits::default() }
    }
}

impl Limits {
    fn first_line(&self) -> usize {
        self.target.saturating_add(AROUND_TARGET)
    }

    /// Bytes of a whole head: no more are ever held of one that isn't complete.
    pub fn head(&self) -> usize {
        self.first_line().saturating_add(self.fields.total).saturating_add(SLACK)
    }
}

/// Reads one head after another off a connection's bytes.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    scanner: Scanner,
    has_skipped: bool,
}

impl Reader {
    /// The next head, taken off `input`; None while it isn't complete. Call it again with the same bytes and those that
    /// came since.
    ///
    /// # Errors
    /// The first rule that is broken: as soon as that is certain, so that nobody waits for the end of nonsense.
    pub fn next(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<Request<()>>, Error> {
        self.next_seen(input, limits).map(|head| head.map(|(request, _)| request))
    }

    pub(crate) fn next_seen(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<(Request<()>, Seen)>, Error> {
        loop {
            match &input[..] {
                [] | [b'\r'] => return Ok(None),
                // RFC 9112, section 2.2: some clients send one after a body.
                [b'\r', b'\n', ..] if self.has_skipped => return Err(Error::EmptyLine),
                [b'\r', b'\n', ..] => {
                    input.advance(2);
                    self.has_skipped = true;
                }
                [b'\n', ..] => return Err(Error::BareLf),
                [first, ..] if !is_token(*first) => return Err(Error::RequestLine),
                _ => break,
            }
        }
        let seen = &input[..input.len().min(limits.head())];
        if self.scanner.lines() == 0 {
            let first = &seen[..seen.len().min(limits.first_line())];
            let end = self.scanner.end(first)?;
            if self.scanner.lines() == 0 && end.is_none() && first.len() == limits.first_line() {
                return Err(Error::TargetTooLong);
            }
            if let Some(end) = end {
                return self.take(input, end, limits).map(Some);
            }
        }
        match self.scanner.end(seen)? {
            Some(end) => self.take(input, end, limits).map(Some),
            None if seen.len() == limits.head() => Err(self.too_long(seen, limits)),
            None => Ok(None),
        }
    }

    fn take(&mut self, input: &mut BytesMut, end: usize, limits: &Limits) -> Result<(Request<()>, Seen), Error> {
        let lines = self.scanner.lines();
        *self = Self::default();
        parse_seen(&input.split_to(end).freeze(), lines, limits)
    }

    fn too_long(&self, seen: &[u8], limits: &Limits) -> Error {
        let line = &seen[self.scanner.line()..];
        if line.len() > limits.fields.one { Error::FieldTooLong(field::name_of(line)) } else { Error::FieldsTooLong }
    }
}

/// Parses a whole head, from the first byte of its request line to the end of its empty line. `lines`: about how many lines
/// it has.
///
/// # Errors
/// The first rule that is broken.
pub fn parse(head: &Bytes, lines: usize, limits: &Limits) -> Result<Request<()>, Error> {
    parse_seen(head, lines, limits).map(|(request, _)| request)
}

fn parse_seen(head: &Bytes, lines: usize, limits: &Limits) -> Result<(Request<()>, Seen), Error> {
    let end = head.iter().position(|byte| *byte == b'\n').ok_or(Error::RequestLine)?;
    let line = head[..end].strip_suffix(b"\r").ok_or(Error::BareLf)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Error::RequestLine);
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Error::Method);
    }
    if method.len() > METHOD {
        return Err(Error::MethodTooLong);
    }
    let from = method.len() + 1;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Error::Method)?;
    *request.version_mut() = protocol(version)?;
    if target.len() > limits.target {
        return Err(Error::TargetTooLong);
    }
    *request.uri_mut() = parse_target(request.method(), head.slice(from..from + target.len()))?;
    let (headers, seen) = field::parse_seen(head, end + 1, &limits.fields, lines)?;
    *request.headers_mut() = headers;
    Ok((request, seen))
}

pub(crate) fn protocol(version: &[u8]) -> Result<Version, Error> {
    match version {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Error::Version)
        }
        _ => Err(Error::Protocol),
    }
}

/// Each of the four forms where it belongs (RFC 9112, section 3.2).
fn parse_target(method: &Method, target: Bytes) -> Result<Uri, Error> {
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Error::Target);
    }
    let first = target.first().copied();
    let uri = Uri::from_maybe_shared(target).map_err(|_| Error::Target)?;
    let has_user = || uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let is_absolute = || uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()) && !has_user();
    let is_authority = || uri.scheme().is_none() && uri.port().is_some() && !has_user();
    let fits = match (method, first) {
        (&Method::CONNECT, _) => is_authority(),
        (_, Some(b'/')) => true,
        (&Method::OPTIONS, Some(b'*')) => uri.path() == "*",
        _ => is_absolute(),
    };
    if fits { Ok(uri) } else { Err(Error::Target) }
}

/// Whether the connection may carry another message after this one (RFC 9112, section 9.3).
pub fn is_persistent(version: Version, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::CONNECTION) {
        return version != Version::HTTP_10;
    }
    !says(headers, header::CONNECTION, "close")
        && (version != Version::HTTP_10 || says(headers, header::CONNECTION, "keep-alive"))
}

/// Whether a field that is a list of tokens has this one.
pub(crate) fn says(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let is_token = |part: &[u8]| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes());
    headers.get_all(name).iter().any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_token))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const SMALL: Limits = Limits { target: 40, fields: field::Limits { total: 200, count: 6, one: 100 } };

    /// Every head in the input, and the error that ends it, with the input coming in pieces cut where they say.
    fn read(input: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<String>, Option<Error>) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| *cut.min(&input.len())).collect();
        cuts.sort_unstable();
        cuts.push(input.len());
        let (mut reader, mut buffer, mut fed) = (Reader::default(), BytesMut::new(), 0);
        let mut heads = Vec::new();
        for cut in cuts {
            buffer.extend_from_slice(&input[fed..cut]);
            fed = cut;
            loop {
                match reader.next(&mut buffer, limits) {
                    Ok(Some(head)) => heads.push(format!("{head:?}")),
                    Ok(None) => break,
                    Err(error) => return (heads, Some(error)),
                }
            }
        }
        (heads, None)
    }

    fn one(head: &str) -> Result<Request<()>, Error> {
        let mut input = BytesMut::from(head);
        Reader::default().next(&mut input, &Limits::default()).map(|head| head.expect("a whole head"))
    }

    #[test]
    fn a_head_is_read_and_what_follows_is_left() {
        let mut input = BytesMut::from("\r\nPOST /a?b=%20 HTTP/1.0\r\nHost: x\r\nX-A: 1\r\n\r\nbody");
        let head = Reader::default().next(&mut input, &Limits::default()).unwrap().unwrap();
        assert_eq!((head.method(), head.version()), (&Method::POST, Version::HTTP_10));
        assert_eq!((head.uri().path(), head.uri().query()), ("/a", Some("b=%20")));
        assert_eq!((head.headers().len(), &head.headers()["x-a"]), (2, &"1".parse().unwrap()));
        assert_eq!(&input[..], b"body");
    }

    #[test]
    fn each_form_of_target_has_its_place() {
        for line in [
            "GET / HTTP/1.1",
            "GET //a HTTP/1.1",
            "GET /a?b?c/d HTTP/1.1",
            "GET http://a.test/b?c HTTP/1.1",
            "GET http://a.test HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "OPTIONS / HTTP/1.1",
            "CONNECT a.test:443 HTTP/1.1",
            "PURGE /a HTTP/1.1",
        ] {
            let head = one(&format!("{line}\r\n\r\n"));
            assert!(head.is_ok(), "{line}: {head:?}");
        }
        for line in [
            "GET * HTTP/1.1",
            "GET a HTTP/1.1",
            "GET a.test:80 HTTP/1.1",
            "GET ?a HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /a\u{e9} HTTP/1.1",
            "GET /a\tb HTTP/1.1",
            "GET /a\0 HTTP/1.1",
            "GET /a\x7f HTTP/1.1",
            "GET http://user@a.test/ HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "GET http://a b/ HTTP/1.1",
            "OPTIONS ** HTTP/1.1",
            "CONNECT / HTTP/1.1",
            "CONNECT a.test HTTP/1.1",
            "CONNECT http://a.test:80/ HTTP/1.1",
        ] {
            let error = one(&format!("{line}\r\n\r\n")).unwrap_err();
            assert!(matches!(error, Error::Target | Error::RequestLine), "{line}: {error:?}");
        }
    }

    #[test]
    fn a_request_line_is_three_words_and_single_spaces() {
        for (line, why) in [
            ("GET  / HTTP/1.1", Error::RequestLine),
            ("GET /  HTTP/1.1", Error::RequestLine),
            ("GET / HTTP/1.1 ", Error::RequestLine),
            (" GET / HTTP/1.1", Error::RequestLine),
            ("GET\t/ HTTP/1.1", Error::RequestLine),
            ("GET /", Error::RequestLine),
            ("GET", Error::RequestLine),
            ("G@T / HTTP/1.1", Error::Method),
            ("GET: / HTTP/1.1", Error::Method),
            ("GET / http/1.1", Error::Protocol),
            ("GET / HTTP/1", Error::Protocol),
            ("GET / HTTP/1.1.1", Error::Protocol),
            ("GET / HTTP/11.1", Error::Protocol),
            ("GET / XTTP/1.1", Error::Protocol),
            ("GET / HTTP/1.2", Error::Version),
            ("GET / HTTP/0.9", Error::Version),
            ("GET / HTTP/2.0", Error::Version),
            ("PRI * HTTP/2.0", Error::Version),
            ("GET / HTTP/1.1\r", Error::Protocol),
        ] {
            assert_eq!(one(&format!("{line}\r\nhost: a\r\n\r\n")).unwrap_err(), why, "{line:?}");
        }
        let long = format!("{} / HTTP/1.1\r\n\r\n", "A".repeat(33));
        assert_eq!(one(&long).unwrap_err(), Error::MethodTooLong);
    }

    #[test]
    fn nonsense_is_refused_before_it_ends() {
        for (begun, why) in [
            (&b"\x16\x03\x01"[..], Error::RequestLine),
            (b"\n", Error::BareLf),
            (b"\rG", Error::RequestLine),
            (b"GET / HTTP/1.1\n", Error::BareLf),
            (b"\r\n\r\n", Error::EmptyLine),
        ] {
            assert_eq!(Reader::default().next(&mut BytesMut::from(begun), &SMALL).unwrap_err(), why, "{begun:?}");
        }
        assert_eq!(read(b"\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[], &SMALL).0.len(), 2);
    }

    #[test]
    fn what_is_too_long_is_refused_for_what_it_is() {
        let of = |head: String| read(head.as_bytes(), &[], &SMALL).1.unwrap();
        let x = |times| "x".repeat(times);
        assert_eq!(of(format!("GET /{} HTTP/1.1\r\n\r\n", x(40))), Error::TargetTooLong);
        assert_eq!(of(format!("GET /{}", x(400))), Error::TargetTooLong);
        assert_eq!(
            of(format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", x(100))),
            Error::FieldTooLong(Some("a".parse().unwrap()))
        );
        let unending = format!("GET / HTTP/1.1\r\nx-long: {}", x(4000));
        assert_eq!(of(unending), Error::FieldTooLong(Some(HeaderName::from_static("x-long"))));
        assert_eq!(
            of(format!("GET / HTTP/1.1\r\n{}\r\n", format!("a: {}\r\n", x(80)).repeat(3))),
            Error::FieldsTooLong
        );
        assert_eq!(of(format!("GET / HTTP/1.1\r\n{}", format!("a: {}\r\n", x(80)).repeat(60))), Error::FieldsTooLong);
        assert_eq!(of(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(7))), Error::TooManyFields);
        let padded = format!("GET / HTTP/1.1\r\na:{}b\r\n\r\n", " ".repeat(4000));
        assert_eq!(of(padded), Error::FieldTooLong(Some("a".parse().unwrap())));
    }

    #[test]
    fn a_connection_lasts_unless_someone_says_otherwise() {
        let lasts = |version, value: Option<&str>| {
            let headers = value.map(|value| (header::CONNECTION, value.parse().unwrap())).into_iter().collect();
            is_persistent(version, &headers)
        };
        assert!(lasts(Version::HTTP_11, None));
        assert!(lasts(Version::HTTP_11, Some("upgrade")));
        assert!(!lasts(Version::HTTP_11, Some("x, Close")));
        assert!(!lasts(Version::HTTP_10, None));
        assert!(lasts(Version::HTTP_10, Some("Keep-Alive")));
        assert!(!lasts(Version::HTTP_10, Some("keep-alive, close")));
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            input in prop_oneof![
                "(\r?\n?(GET|P) ?/[a-z]{0,50} HTTP/1.[01]\r?\n([a-b]{1,3}: ?[a-z ]{0,60}\r?\n){0,5}\r?\n?){0,3}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..80),
            ],
            cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            prop_assert_eq!(read(&input, &cuts, &SMALL), read(&input, &[], &SMALL));
        }

        #[test]
        fn what_is_written_is_read_again(
            method in "[A-Z]{1,10}",
            target in "/[a-zA-Z0-9._~!$&'()*+,;=:@%/-]{0,30}(\\?[a-zA-Z0-9._~!$&'()*+,;=:@%/?-]{0,30})?",
            fields in prop::collection::vec(("[a-z-]{1,12}", "[!-~]{0,20}"), 0..8),
        ) {
            prop_assume!(method != "CONNECT");
            let headers: HeaderMap =
                fields.iter().map(|(name, value)| (format!("x{name}").parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
            let mut out = Vec::new();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            crate::encode::request_line(&mut out, &method, &target);
            crate::encode::fields(&mut out, &headers);
            out.extend_from_slice(b"\r\n");
            let head = parse(&Bytes::from(out), 0, &Limits::default()).unwrap();
            prop_assert_eq!(head.method(), &method);
            prop_assert_eq!(head.uri().to_string(), target);
            prop_assert_eq!(head.headers(), &headers);
        }
    }
}
