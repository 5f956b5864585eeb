//! Writing heads. Whatever says where a message ends or what becomes of its connection is written by the codec alone, never
//! taken from the message's fields.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use crate::Length;

/// `GET /path HTTP/1.1`. The target must be one that a request line can hold: an `http::Uri`'s parts are.
pub fn request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 200 OK`.
pub fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    if status == StatusCode::OK && version == Version::HTTP_11 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Every field but those that the codec writes itself: Connection, Content-Length, Transfer-Encoding.
pub fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if !is_own(name) {
            field(out, name, value);
        }
    }
}

pub fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.reserve(name.as_str().len() + value.len() + 4);
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The field that tells the length; none for a body that ends with its connection.
pub fn length(out: &mut Vec<u8>, length: Length) {
    match length {
        Length::Exact(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Length::UntilClose => {}
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn is_own(name: &HeaderName) -> bool {
    *name == CONNECTION || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{chunked, field::Limits};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn first_lines() {
        assert_eq!(text(|out| request_line(out, &Method::GET, "/a?b")), "GET /a?b HTTP/1.1\r\n");
        let line = |version, status| text(|out| status_line(out, version, StatusCode::from_u16(status).unwrap()));
        assert_eq!(line(Version::HTTP_11, 200), "HTTP/1.1 200 OK\r\n");
        assert_eq!(line(Version::HTTP_10, 404), "HTTP/1.0 404 Not Found\r\n");
        assert_eq!(line(Version::HTTP_11, 499), "HTTP/1.1 499 \r\n");
    }

    #[test]
    fn what_frames_a_message_is_not_taken_from_its_fields() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-length", "7"), ("transfer-encoding", "x"), ("connection", "y"), ("x-a", "1")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(text(|out| fields(out, &headers)), "x-a: 1\r\n");
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are(number: u64, size in 1usize..) {
            prop_assert_eq!(text(|out| decimal(out, number)), number.to_string());
            prop_assert_eq!(text(|out| chunked::write_size(out, size)), format!("{size:x}\r\n"));
        }

        #[test]
        fn fields_that_were_written_are_read_again(
            written in prop::collection::vec(("[a-z0-9!#$%&'*+.^_`|~-]{1,12}", "[ -~\u{80}-\u{ff}\t]{0,40}"), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &written {
                let name: HeaderName = name.parse().unwrap();
                if !is_own(&name) {
                    headers.append(name, HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).unwrap());
                }
            }
            let mut out = Vec::new();
            fields(&mut out, &headers);
            out.extend_from_slice(b"\r\n");
            prop_assert_eq!(crate::field::parse(&Bytes::from(out), 0, &Limits::default(), 0), Ok(headers));
        }
    }
}
