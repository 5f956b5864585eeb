//! Entity tags (RFC 9110, section 8.8.3) and the conditions on them. A message's field `etag` holds the tag without quotes;
//! it names a version of the resource, so tags written here are strong.

use http::{HeaderMap, HeaderValue, header};

use crate::error::{Error, ErrorKind};

/// What `If-Match` demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever version is there. The field stays empty.
    Any,
    Tag(String),
}

/// The condition of a request, if it has one.
///
/// # Errors
/// 412 for a weak tag, which `If-Match` never matches; 400 for several tags, because a message holds one.
pub fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Error> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.to_str().map(str::trim).unwrap_or_default();
    if values.next().is_some() {
        return Err(malformed());
    }
    if value == "*" {
        return Ok(Some(IfMatch::Any));
    }
    if value.starts_with("W/\"") {
        return Err(Error::new(ErrorKind::PreconditionFailed, "`If-Match` needs a strong entity tag"));
    }
    opaque(value).map(|tag| Some(IfMatch::Tag(tag.to_owned()))).ok_or_else(malformed)
}

/// Whether the client has this version already. The comparison is weak, as `If-None-Match` has it.
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.trim() == "*"
            || value.split(',').map(str::trim).any(|tag| opaque(tag.strip_prefix("W/").unwrap_or(tag)) == Some(etag))
    })
}

/// The header field for a tag; none where it has characters that a tag can't have.
pub fn header_value(etag: &str) -> Option<HeaderValue> {
    let valid = !etag.is_empty() && etag.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte));
    valid.then(|| HeaderValue::try_from(format!("\"{etag}\"")).ok())?
}

fn opaque(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"').filter(|tag| !tag.contains('"'))
}

fn malformed() -> Error {
    Error::new(ErrorKind::BadRequest, "`If-Match` must be one entity tag such as \"7\", or *")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn if_match_takes_one_strong_tag_or_any() {
        let read = |value| if_match(&headers(header::IF_MATCH, value)).map_err(|error| error.kind);
        assert_eq!(read("\"7\""), Ok(Some(IfMatch::Tag("7".into()))));
        assert_eq!(read("*"), Ok(Some(IfMatch::Any)));
        assert_eq!(read("W/\"7\""), Err(ErrorKind::PreconditionFailed));
        for malformed in ["7", "\"7", "\"7\", \"8\"", ""] {
            assert_eq!(read(malformed), Err(ErrorKind::BadRequest), "{malformed}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for value in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
            assert!(is_known(&headers(header::IF_NONE_MATCH, value), "7"), "{value}");
        }
        assert!(!is_known(&headers(header::IF_NONE_MATCH, "\"8\""), "7"));
        assert!(!is_known(&HeaderMap::new(), "7"));
    }

    #[test]
    fn a_tag_that_can_not_be_written_is_not() {
        assert_eq!(header_value("7").unwrap(), "\"7\"");
        for etag in ["", "a b", "a\"b", "é"] {
            assert_eq!(header_value(etag), None, "{etag}");
        }
    }
}
