//! Where a message's body ends (RFC 9112, section 6), without leniency: a body whose end can be read in two ways is how
//! a request is smuggled past a proxy.

use http::{
    HeaderMap, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

use crate::Error;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes.
    Exact(u64),
    Chunked,
    /// Only a response can: the connection ends with it.
    UntilClose,
}

impl Length {
    pub const NONE: Self = Self::Exact(0);
}

/// That of a request. Without a word about it there is no body.
///
/// # Errors
/// Both fields at once, a Content-Length that is not one number, a Transfer-Encoding that is not `chunked` alone.
pub fn of_request(version: Version, headers: &HeaderMap) -> Result<Length, Error> {
    Ok(stated(version, headers)?.unwrap_or(Length::NONE))
}

/// That of the response to a request of this method.
///
/// # Errors
/// As for a request.
pub fn of_response(
    request: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Length, Error> {
    let stated = stated(version, headers)?;
    let has_none = *request == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    Ok(if has_none { Length::NONE } else { stated.unwrap_or(Length::UntilClose) })
}

/// What the fields say.
fn stated(version: Version, headers: &HeaderMap) -> Result<Option<Length>, Error> {
    let is_coded = headers.contains_key(TRANSFER_ENCODING);
    let length = content_length(headers);
    match (is_coded, length) {
        (false, length) => Ok(length?.map(Length::Exact)),
        (true, Ok(None)) if version < Version::HTTP_11 => Err(Error::CodingOnHttp10),
        (true, Ok(None)) => check_chunked(headers).map(|()| Some(Length::Chunked)),
        (true, _) => Err(Error::LengthAndCoding),
    }
}

/// The one Content-Length there is: digits alone, in one field.
///
/// # Errors
/// [`Error::ContentLength`].
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    if values.next().is_some() || digits.is_empty() {
        return Err(Error::ContentLength);
    }
    let add = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, add).map(Some).ok_or(Error::ContentLength)
}

/// Whether the transfer codings are `chunked` and nothing else.
fn check_chunked(headers: &HeaderMap) -> Result<(), Error> {
    let (mut others, mut chunked) = (false, false);
    for value in headers.get_all(TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            let coding = coding.trim_ascii();
            if chunked || coding.is_empty() {
                return Err(Error::Coding);
            }
            chunked = coding.eq_ignore_ascii_case(b"chunked");
            others |= !chunked;
        }
    }
    match (chunked, others) {
        (true, false) => Ok(()),
        (true, true) => Err(Error::CodingNotKnown),
        (false, _) => Err(Error::Coding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn of(fields: &[(&'static str, &'static str)]) -> Result<Length, Error> {
        of_request(Version::HTTP_11, &headers(fields))
    }

    #[test]
    fn a_request_says_how_long_it_is_or_has_no_body() {
        assert_eq!(of(&[]), Ok(Length::NONE));
        assert_eq!(of(&[("content-length", "0")]), Ok(Length::Exact(0)));
        assert_eq!(of(&[("content-length", "18446744073709551615")]), Ok(Length::Exact(u64::MAX)));
        assert_eq!(of(&[("transfer-encoding", "chunked")]), Ok(Length::Chunked));
        assert_eq!(of(&[("transfer-encoding", "Chunked")]), Ok(Length::Chunked));
    }

    #[test]
    fn a_content_length_that_is_not_one_number_is_refused() {
        for value in ["", "-1", "+1", "1 ", " 1", "1, 1", "1,1", "0x1", "1.0", "1e1", "18446744073709551616", "\u{661}"]
        {
            let mut headers = HeaderMap::new();
            headers.insert("content-length", http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(of_request(Version::HTTP_11, &headers), Err(Error::ContentLength), "{value:?}");
        }
        assert_eq!(of(&[("content-length", "1"), ("content-length", "1")]), Err(Error::ContentLength));
        assert_eq!(of(&[("content-length", "1"), ("content-length", "2")]), Err(Error::ContentLength));
    }

    #[test]
    fn both_at_once_are_refused_whatever_they_say() {
        let chunked = ("transfer-encoding", "chunked");
        assert_eq!(of(&[("content-length", "1"), chunked]), Err(Error::LengthAndCoding));
        assert_eq!(of(&[chunked, ("content-length", "0")]), Err(Error::LengthAndCoding));
        assert_eq!(of(&[chunked, ("content-length", "x")]), Err(Error::LengthAndCoding));
        assert_eq!(of(&[("transfer-encoding", "identity"), ("content-length", "1")]), Err(Error::LengthAndCoding));
    }

    #[test]
    fn chunked_stands_alone() {
        let coding = "transfer-encoding";
        for (value, why) in [
            ("gzip, chunked", Error::CodingNotKnown),
            ("identity, chunked", Error::CodingNotKnown),
            ("chunked, gzip", Error::Coding),
            ("chunked, chunked", Error::Coding),
            ("chunked,", Error::Coding),
            (", chunked", Error::Coding),
            ("", Error::Coding),
            ("gzip", Error::Coding),
            ("identity", Error::Coding),
            ("xchunked", Error::Coding),
            ("chunked;q=1", Error::Coding),
            ("\"chunked\"", Error::Coding),
        ] {
            assert_eq!(of(&[(coding, value)]), Err(why), "{value}");
        }
        assert_eq!(of(&[(coding, "chunked"), (coding, "chunked")]), Err(Error::Coding));
        assert_eq!(of(&[(coding, "gzip"), (coding, "chunked")]), Err(Error::CodingNotKnown));
        assert_eq!(of(&[(coding, "chunked"), (coding, "identity")]), Err(Error::Coding));
        let chunked = headers(&[(coding, "chunked")]);
        assert_eq!(of_request(Version::HTTP_10, &chunked), Err(Error::CodingOnHttp10));
    }

    #[test]
    fn a_response_may_also_end_with_its_connection() {
        let of = |method: Method, status: u16, fields: &[(&'static str, &'static str)]| {
            of_response(&method, StatusCode::from_u16(status).unwrap(), Version::HTTP_11, &headers(fields))
        };
        let length = [("content-length", "5")];
        assert_eq!(of(Method::GET, 200, &[]), Ok(Length::UntilClose));
        assert_eq!(of(Method::GET, 200, &length), Ok(Length::Exact(5)));
        assert_eq!(of(Method::GET, 200, &[("transfer-encoding", "chunked")]), Ok(Length::Chunked));
        assert_eq!(of(Method::HEAD, 200, &length), Ok(Length::NONE));
        for status in [100, 101, 204, 304] {
            assert_eq!(of(Method::GET, status, &length), Ok(Length::NONE), "{status}");
        }
        assert_eq!(of(Method::GET, 200, &[length[0], ("transfer-encoding", "chunked")]), Err(Error::LengthAndCoding));
    }
}
