//! What a proxy must change in a message it passes on (RFC 9110, 7.6): what is meant for one hop ends at that hop, and the
//! target takes the form of the next hop's protocol.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use http_body::Body as _;

use crate::{Body, Protocol, endpoint::Shared};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Makes a request fit for the upstream, whichever endpoint gets it. `host`: the authority it is to carry, if not the
/// one it came with.
pub(crate) fn prepare(request: &mut Request<Body>, protocol: Protocol, host: Option<&HeaderValue>) {
    let from_uri = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    // One pass finds what most requests have nothing of; each look-up of a name that isn't there costs a hash.
    let (mut is_for_hop, mut has_cookie) = (false, false);
    for name in headers.keys() {
        is_for_hop |= is_for_one_hop(name);
        has_cookie |= *name == COOKIE;
    }
    let mut takes_trailers = false;
    if is_for_hop {
        takes_trailers = headers.get(TE).is_some_and(|te| has_token(te, "trailers"));
        let upgrade = (protocol == Protocol::Http1).then(|| upgrade(headers)).flatten();
        strip_hop_by_hop(headers);
        headers.remove(TE);
        headers.remove(PROXY_AUTHORIZATION);
        if let Some(protocol) = upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
        }
    }
    // RFC 9112, 3.2.2: the target's authority goes before the Host header.
    if let Some(host) = host.cloned().or(from_uri) {
        headers.insert(HOST, host);
    }
    match protocol {
        Protocol::Http1 if has_cookie => join_cookies(headers),
        // The gRPC specification has every call say so.
        Protocol::Grpc => _ = headers.insert(TE, TRAILERS),
        Protocol::Http2 if takes_trailers => _ = headers.insert(TE, TRAILERS),
        Protocol::Http1 | Protocol::Http2 => {}
    }
}

/// A Host header; the codec writes the origin form whatever the target's form is. Whether the header is the endpoint's own,
/// and so for no other.
pub(crate) fn to_http1(request: &mut Request<Body>, endpoint: &Shared) -> bool {
    let lacks_host = !request.headers().contains_key(HOST);
    if lacks_host {
        request.headers_mut().insert(HOST, endpoint.host.clone());
    }
    lacks_host
}

/// Absolute form; the authority is the Host header's, which HTTP/2 doesn't have.
pub(crate) fn to_http2(request: &mut Request<Body>, scheme: Scheme, endpoint: &Shared) {
    *request.version_mut() = Version::HTTP_2;
    let authority = request
        .headers_mut()
        .remove(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        .unwrap_or_else(|| endpoint.authority.clone());
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    if let Some(length) = request.body().size_hint().exact()
        && length > 0
        && !request.headers().contains_key(CONTENT_LENGTH)
    {
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
}

pub(crate) fn from_http1(response: &mut Response<Body>) {
    *response.version_mut() = Version::HTTP_11;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && response.headers().keys().any(is_for_one_hop) {
        strip_hop_by_hop(response.headers_mut());
    }
}

pub(crate) fn from_http2(response: &mut Response<Body>) {
    *response.version_mut() = Version::HTTP_11;
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn is_for_one_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == UPGRADE
        || *name == TE
        || *name == PROXY_AUTHORIZATION
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
}

/// The protocol a request asks to switch to.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade")).then(|| protocol.clone())
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

/// HTTP/2 may split the Cookie header; HTTP/1.1 knows only one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let values: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn endpoint() -> Shared {
        Shared::new("test", "10.0.0.1:7001").unwrap()
    }

    #[test]
    fn what_is_meant_for_one_hop_ends_there() {
        let mut request = request(
            "/",
            &[
                ("connection", "keep-alive, X-Private"),
                ("keep-alive", "timeout=5"),
                ("x-private", "1"),
                ("proxy-authorization", "Basic eA=="),
                ("te", "gzip"),
                ("transfer-encoding", "chunked"),
                ("x-public", "1"),
            ],
        );
        prepare(&mut request, Protocol::Http1, None);
        assert_eq!(request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-public"]);
    }

    #[test]
    fn an_upgrade_passes_to_http1_only() {
        let headers = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let mut to_http1 = request("/ws", &headers);
        prepare(&mut to_http1, Protocol::Http1, None);
        assert_eq!(to_http1.headers()[CONNECTION], "upgrade");
        assert_eq!(to_http1.headers()[UPGRADE], "websocket");
        let mut to_http2 = request("/ws", &headers);
        prepare(&mut to_http2, Protocol::Http2, None);
        assert!(to_http2.headers().is_empty());
    }

    #[test]
    fn the_incoming_host_is_kept_unless_another_is_set() {
        let mut kept = request("/a?b", &[("host", "shop.example")]);
        prepare(&mut kept, Protocol::Http1, None);
        to_http1(&mut kept, &endpoint());
        assert_eq!(kept.headers()[HOST], "shop.example");
        let mut set = request("/a?b", &[("host", "shop.example")]);
        prepare(&mut set, Protocol::Http1, Some(&HeaderValue::from_static("inner.example")));
        assert_eq!(set.headers()[HOST], "inner.example");
        let mut absent = request("/a?b", &[]);
        to_http1(&mut absent, &endpoint());
        assert_eq!(absent.headers()[HOST], "10.0.0.1:7001");
    }

    #[test]
    fn the_target_takes_the_form_of_the_protocol() {
        let mut down = request("https://shop.example/a?b", &[]);
        prepare(&mut down, Protocol::Http1, None);
        assert!(!to_http1(&mut down, &endpoint()), "the target's authority is the Host");
        assert_eq!(down.headers()[HOST], "shop.example");
        let mut up = request("/a?b", &[("host", "shop.example")]);
        prepare(&mut up, Protocol::Http2, None);
        to_http2(&mut up, Scheme::HTTP, &endpoint());
        assert_eq!(up.uri(), "http://shop.example/a?b");
        assert!(!up.headers().contains_key(HOST));
    }

    #[test]
    fn split_cookies_are_joined_for_http1() {
        let mut request = request("/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        prepare(&mut request, Protocol::Http1, None);
        assert_eq!(request.headers().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_grpc_call_always_takes_trailers() {
        let mut request = request("/shop.v1.Shop/Get", &[]);
        prepare(&mut request, Protocol::Grpc, None);
        assert_eq!(request.headers()[TE], "trailers");
    }
}
