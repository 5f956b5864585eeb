//! From what is kept to an answer: 304 where the client has it already (RFC 9110, section 13), a part where it asks for one
//! (section 14), with its `Age` and what the cache did about it (`Cache-Status`, RFC 9211).

use std::{fmt::Write as _, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use upstream::Body;

use super::{Moment, Stored, directives::words, freshness::http_date};
use crate::error::{Error, ErrorKind};

pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// More parts than that are not worth the trouble: the whole is given.
const PARTS: usize = 8;

/// What the cache did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Why the service was asked; None: it was not.
    pub forwarded: Option<&'static str>,
    /// What the service answered, where that is not the answer's status.
    pub status: Option<StatusCode>,
    pub stored: bool,
    /// Another one asked the service.
    pub collapsed: bool,
    /// So long it is still good, in seconds.
    pub ttl: Option<i64>,
    /// Why it was not kept.
    pub detail: Option<&'static str>,
}

impl Told {
    pub fn hit(ttl: i64) -> Self {
        Self { ttl: Some(ttl), ..Self::default() }
    }

    pub fn forwarded(why: &'static str) -> Self {
        Self { forwarded: Some(why), ..Self::default() }
    }

    fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str("turnpike");
        // Writing to a string can't fail.
        match self.forwarded {
            None => text.push_str("; hit"),
            Some(why) => _ = write!(text, "; fwd={why}"),
        }
        if let Some(status) = self.status {
            _ = write!(text, "; fwd-status={}", status.as_u16());
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl) = self.ttl {
            _ = write!(text, "; ttl={ttl}");
        }
        if let Some(detail) = self.detail {
            _ = write!(text, "; detail={detail}");
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("turnpike"))
    }

    /// Adds to what caches behind said.
    pub fn note(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }
}

/// The answer to a request, of what is kept.
///
/// # Errors
/// 416 where it has no part that is asked for.
pub fn answer(stored: &Stored, request: &HeaderMap, told: &Told, now: Moment) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::empty());
    let mut headers = stored.headers.clone();
    let age = stored.freshness.age_at(now).as_secs();
    // What was just fetched is of the service itself, unless another cache had it.
    if told.forwarded.is_none() || told.collapsed || age > 0 {
        headers.insert(header::AGE, age.into());
    }
    told.note(&mut headers);
    if stored.status != StatusCode::OK {
        *response.status_mut() = stored.status;
        *response.headers_mut() = headers;
        *response.body_mut() = stored.body.clone().into();
        return Ok(response);
    }
    if is_known(&stored.headers, stored.freshness.received, request) {
        return Ok(not_modified(headers));
    }
    let asked = request.get(header::RANGE).filter(|_| if_range(&stored.headers, request));
    match asked.map_or(Wanted::Whole, |asked| ranges(asked, stored.body.len())) {
        Wanted::Whole => *response.body_mut() = stored.body.clone().into(),
        Wanted::None => {
            let range = HeaderValue::try_from(format!("bytes */{}", stored.body.len()));
            let range = range.unwrap_or(HeaderValue::from_static("bytes */0"));
            let detail = "the range begins where the answer has ended";
            return Err(Error::new(ErrorKind::RangeNotSatisfiable, detail).header(header::CONTENT_RANGE, range));
        }
        Wanted::Parts(parts) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.body_mut() = partial(&mut headers, &stored.body, &parts).into();
        }
    }
    *response.headers_mut() = headers;
    Ok(response)
}

/// Without what describes a body (RFC 9110, section 15.4.5).
pub fn not_modified(mut headers: HeaderMap) -> Response<Body> {
    let of_body = [
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
    ];
    for name in of_body {
        headers.remove(name);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = headers;
    response
}

/// Whether the client has it already. `If-None-Match` goes first.
pub fn is_known(answer: &HeaderMap, received: Moment, request: &HeaderMap) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let etag = answer.get(header::ETAG).map(|etag| opaque(etag.as_bytes()));
        let mut named = request.get_all(header::IF_NONE_MATCH).iter().flat_map(words);
        return named.any(|name| name == b"*" || etag.is_some_and(|etag| etag == opaque(name)));
    }
    let Some(since) = request.get(header::IF_MODIFIED_SINCE) else { return false };
    let Some(since) = http_date(since) else { return false };
    let modified = answer.get(header::LAST_MODIFIED).or_else(|| answer.get(header::DATE)).and_then(http_date);
    modified.unwrap_or(received.seconds()) <= since
}

/// An entity tag without its weakness, which doesn't count here (RFC 9110, section 8.8.3.2).
pub fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// Whether the client's parts are of this very answer (RFC 9110, section 13.1.5).
fn if_range(answer: &HeaderMap, request: &HeaderMap) -> bool {
    let Some(named) = request.get(header::IF_RANGE) else { return true };
    if named.as_bytes().starts_with(b"\"") {
        return answer.get(header::ETAG) == Some(named);
    }
    // Dates are exact or not at all; a weak tag is neither.
    http_date(named).is_some() && answer.get(header::LAST_MODIFIED) == Some(named)
}

enum Wanted {
    Whole,
    None,
    Parts(Vec<Range<usize>>),
}

/// What `Range` asks for of so many bytes. What can't be read, and more than is reasonable, is taken for all.
fn ranges(value: &HeaderValue, length: usize) -> Wanted {
    let Some(list) = value.as_bytes().strip_prefix(b"bytes=") else { return Wanted::Whole };
    let number = |text: &[u8]| -> Option<usize> {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
    };
    let mut parts: Vec<Range<usize>> = Vec::new();
    for text in list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()) {
        let Some(dash) = text.iter().position(|byte| *byte == b'-') else { return Wanted::Whole };
        let part = match (number(&text[..dash]), number(&text[dash + 1..])) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            (Some(first), None) if dash + 1 == text.len() => first..length,
            (None, Some(last)) if dash == 0 => length.saturating_sub(last)..length,
            _ => return Wanted::Whole,
        };
        // In order and apart: who mixes them up wants to be sent more than there is.
        if part.start < part.end && parts.last().is_some_and(|before| part.start < before.end) {
            return Wanted::Whole;
        }
        if part.start < part.end {
            parts.push(part);
        }
        if parts.len() > PARTS {
            return Wanted::Whole;
        }
    }
    if parts.is_empty() { Wanted::None } else { Wanted::Parts(parts) }
}

fn partial(headers: &mut HeaderMap, body: &Bytes, parts: &[Range<usize>]) -> Bytes {
    let content_range = |part: &Range<usize>| format!("bytes {}-{}/{}", part.start, part.end - 1, body.len());
    if let [part] = parts {
        if let Ok(value) = HeaderValue::try_from(content_range(part)) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        return body.slice(part.clone());
    }
    // Cut where the text can't be: it is made of the body's own length and of what parts there are.
    let boundary = format!("turnpike-{:016x}", super::key::hash_of(body));
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 160).sum());
    for part in parts {
        text.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(kind) = &kind {
            text.extend_from_slice(b"Content-Type: ");
            text.extend_from_slice(kind.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(part)).as_bytes());
        text.extend_from_slice(&body[part.clone()]);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    if let Ok(kind) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn ranges_are_read_and_what_is_unreasonable_is_taken_for_all() {
        let read = |text: &'static str| match ranges(&HeaderValue::from_static(text), 10) {
            Wanted::Whole => "whole".to_owned(),
            Wanted::None => "none".to_owned(),
            Wanted::Parts(parts) => format!("{parts:?}"),
        };
        for (asked, wanted) in [
            ("bytes=0-3", "[0..4]"),
            ("bytes=5-", "[5..10]"),
            ("bytes=-3", "[7..10]"),
            ("bytes=-30", "[0..10]"),
            ("bytes=8-20", "[8..10]"),
            ("bytes=0-1, 4-5", "[0..2, 4..6]"),
            ("bytes=10-", "none"),
            ("bytes=-0", "none"),
            ("bytes=0-1,10-", "[0..2]"),
            ("bytes=4-5,0-1", "whole"),
            ("bytes=0-5,3-8", "whole"),
            ("bytes=5-3", "whole"),
            ("bytes=a-b", "whole"),
            ("lines=0-1", "whole"),
            ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8", "whole"),
        ] {
            assert_eq!(read(asked), wanted, "{asked}");
        }
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let answer = fields(&[("etag", "\"a\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        let known = |request: &[(&'static str, &'static str)]| is_known(&answer, Moment::now(), &fields(request));
        for yes in [
            &[("if-none-match", "\"a\"")][..],
            &[("if-none-match", "\"x\", W/\"a\"")],
            &[("if-none-match", "*")],
            &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")],
        ] {
            assert!(known(yes), "{yes:?}");
        }
        for no in [
            &[][..],
            &[("if-none-match", "\"b\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")],
            &[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")],
            &[("if-modified-since", "yesterday")],
        ] {
            assert!(!known(no), "{no:?}");
        }
    }

    #[test]
    fn what_was_done_is_told_in_one_line() {
        assert_eq!(Told::hit(5).value(), "turnpike; hit; ttl=5");
        let told = Told { stored: true, ttl: Some(60), ..Told::forwarded("miss") };
        assert_eq!(told.value(), "turnpike; fwd=miss; stored; ttl=60");
    }
}
