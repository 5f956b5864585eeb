//! Which answers may be kept, and for whom (RFC 9111, sections 3 and 3.5). What is not kept says why: operators read it in
//! `Cache-Status`.

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{
    Freshness, Policy,
    directives::{Asked, Said, words},
};

/// A header larger than that is not kept, in bytes.
const FIELDS: usize = 32 * 1024;

/// What of an answer's header is not kept: it is of one connection or of one moment (section 3.1).
const PASSING: [HeaderName; 17] = [
    header::AGE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    // What one client has left is nobody else's affair.
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("turnpike-principal"),
];

/// What services vary by when the principal counts; clients can't say it.
const PRINCIPAL: &[u8] = b"turnpike-principal";

/// For whom an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Everybody,
    /// Whoever it was given to; without a principal: all who have none.
    Caller,
}

/// What of a request decides whether its answer may be kept.
pub struct Asker<'a> {
    pub asked: &'a Asked,
    /// It went on with a credential that the gateway knows nothing of.
    pub credential: bool,
    /// It went on with cookies, and nobody knows whose they are.
    pub cookie: bool,
}

/// Whether an answer may be kept, as far as its header tells.
///
/// # Errors
/// Why not, in a word.
pub fn reach(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Said,
    freshness: &Freshness,
    asker: &Asker<'_>,
    policy: &Policy,
) -> Result<Reach, &'static str> {
    if status.is_informational() || matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return Err("status");
    }
    let understood = said.must_understand && is_understood(status);
    if said.must_understand && !understood {
        return Err("must-understand");
    }
    // Who says both means: unless you know better (section 5.2.2.3).
    if said.no_store && !understood || asker.asked.no_store {
        return Err("no-store");
    }
    if said.private {
        return Err("private");
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err("set-cookie");
    }
    let vary = || headers.get_all(header::VARY).iter().flat_map(words);
    if vary().any(|name| name == b"*") {
        return Err("vary");
    }
    if asker.credential && !(said.public || policy.public || said.s_maxage.is_some() || said.must_revalidate) {
        return Err("authorization");
    }
    if is_stream(headers) {
        return Err("stream");
    }
    let timed = said.max_age.is_some() || said.s_maxage.is_some() || headers.contains_key(header::EXPIRES);
    let by_route = policy.rules.ttl.is_some() && status == StatusCode::OK && !timed;
    if !(timed || by_route || said.no_cache) {
        return Err("no-freshness");
    }
    // A service that says nothing of an answer may have made it for whom the cookie is.
    let by_cookie = || policy.vary.contains(&header::COOKIE) || vary().any(|name| name.eq_ignore_ascii_case(b"cookie"));
    if asker.cookie && !(timed || said.public || policy.public || by_cookie()) {
        return Err("cookie");
    }
    let checkable = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    if !(freshness.is_ever_good() || checkable && status == StatusCode::OK) {
        return Err("stale");
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > FIELDS {
        return Err("header-size");
    }
    let personal = vary().any(|name| name.eq_ignore_ascii_case(PRINCIPAL));
    Ok(if (policy.public || said.public) && !personal { Reach::Everybody } else { Reach::Caller })
}

/// A header as it is kept.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers.iter().filter(|(name, _)| !PASSING.contains(name)) {
        kept.append(name.clone(), value.clone());
    }
    kept
}

/// Takes over what a 304 says (section 3.2): each field that it has, in the place of all of that name.
pub fn update(kept: &mut HeaderMap, told: &HeaderMap) {
    for name in told.keys().filter(|name| !PASSING.contains(name)) {
        kept.remove(name);
        for value in told.get_all(name) {
            kept.append(name.clone(), value.clone());
        }
    }
}

/// Those whose meaning for a cache RFC 9110 defines.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 302 | 303 | 307 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Events come as they happen: who waits for all of them waits for ever.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    [&b"text/event-stream"[..], b"application/x-ndjson", b"application/grpc"]
        .iter()
        .any(|other| kind.starts_with(other))
}
