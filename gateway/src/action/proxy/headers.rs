//! Which header fields cross the gateway, and what it adds: who the client is and how it came, which nobody but the gateway
//! may say. What is meant for one hop (RFC 9110, section 7.6.1) is `upstream`'s affair, but for one thing.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http1::chunked::NOT_IN_TRAILERS;
use upstream::Body;

use super::super::metadata::{PRINCIPAL, REQUEST_ID};
use crate::{context::RequestContext, layers::request_id::Peer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Makes the downstream request's header that of the upstream request.
pub fn forward(request: &mut Request<Body>, context: &RequestContext) {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let ip = match (&context.said, request.extensions().get::<Peer>()) {
        (Some(said), _) => Some(said.chain.clone()),
        (None, Some(peer)) => Some(peer.ip.clone()),
        (None, None) => HeaderValue::try_from(context.client.ip().to_string()).ok(),
    };
    if !request.body().is_whole() {
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = body.with_trailers(trail);
    }
    let headers = request.headers_mut();
    drop_named_by_connection(headers);
    // What is not said here anew the client may have made up.
    drop_all(headers, |name| is_ours(name) || is_taken_for_another(name) || is_of_proxies(name));
    // Downstream it has been answered already.
    headers.remove(header::EXPECT);
    if let Some(ip) = ip {
        headers.insert(FORWARDED_FOR, ip);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(context.scheme()));
    let asked = context.said.as_ref().and_then(|said| said.host.clone());
    match asked.or(authority).or_else(|| headers.get(header::HOST).cloned()) {
        Some(host) => _ = headers.insert(FORWARDED_HOST, host),
        None => _ = headers.remove(FORWARDED_HOST),
    }
    match &context.principal {
        Some(authenticated) => _ = headers.insert(PRINCIPAL, authenticated.token.clone()),
        None => _ = headers.remove(PRINCIPAL),
    }
    telemetry::inject(&context.trace.child(), headers);
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// What a client says behind a body is held to what it may say before: services may well take the one for the other.
fn trail(trailers: &mut HeaderMap) {
    const TRACE: [&str; 2] = ["traceparent", "tracestate"];
    let is_known_before = |name: &HeaderName| {
        is_credential(name) || *name == REQUEST_ID || TRACE.contains(&name.as_str()) || NOT_IN_TRAILERS.contains(name)
    };
    drop_all(trailers, |name| {
        is_ours(name) || is_taken_for_another(name) || is_of_proxies(name) || is_known_before(name)
    });
}

/// Where a poll of the bus goes on, and whether that is all there was: without it clients would lose their place.
const TOLD: [&str; 2] = ["turnpike-cursor", "turnpike-caught-up"];

/// Makes the upstream's answer one of the gateway: what is between the two goes no further, nor what only tells an attacker
/// what runs behind.
pub fn backward(headers: &mut HeaderMap) {
    const POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
    let is_told = |name: &HeaderName| TOLD.contains(&name.as_str());
    drop_all(headers, |name| *name == header::SERVER || *name == POWERED_BY || (is_ours(name) && !is_told(name)));
}

fn drop_all(headers: &mut HeaderMap, which: impl Fn(&HeaderName) -> bool) {
    let dropped: Vec<_> = headers.keys().filter(|name| which(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// What services take for a proxy's word on the client.
fn is_of_proxies(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("turnpike-")
}

/// What says who the client is, and was looked at in the header.
fn is_credential(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-api-key" | "idempotency-key")
}

/// CGI, WSGI and their like see no difference between `x_forwarded_for` and what it imitates.
fn is_taken_for_another(name: &HeaderName) -> bool {
    const GUARDED: [&str; 8] = [
        "content-length",
        "content-type",
        "idempotency-key",
        "proxy-authorization",
        "transfer-encoding",
        "x-api-key",
        "x-real-ip",
        "x-request-id",
    ];
    if !name.as_str().contains('_') {
        return false;
    }
    let name = name.as_str().replace('_', "-");
    name.starts_with("turnpike-") || name.starts_with("x-forwarded-") || GUARDED.contains(&name.as_str())
}

/// Before anything is added: a client that writes `Connection: turnpike-principal` must not have that field dropped later,
/// when it is the gateway's own.
fn drop_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let values = headers.get_all(header::CONNECTION).iter();
    let named = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: Vec<_> = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    // The host that the route was found by is for all who pass the request on.
    for name in named.into_iter().filter(|name| *name != header::HOST) {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(names: &[&'static str], pass: impl Fn(&mut HeaderMap)) -> Vec<String> {
        let fields = names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let mut headers: HeaderMap = fields.collect();
        pass(&mut headers);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn what_only_the_gateway_says_can_not_be_imitated() {
        let sent = ["turnpike-principal", "turnpike_principal", "turnpike-new", "x_forwarded_for", "x-forwarded_proto"];
        assert_eq!(left(&sent, |headers| drop_all(headers, |n| is_ours(n) || is_taken_for_another(n))), [""; 0]);
        let harmless = ["content-type", "my_own", "x-forwarded-for"];
        assert_eq!(left(&harmless, |headers| drop_all(headers, |n| is_ours(n) || is_taken_for_another(n))), harmless);
    }

    #[test]
    fn an_answer_does_not_say_what_runs_behind() {
        let sent = ["server", "content-type", "x-powered-by", "turnpike-principal", "server-timing"];
        assert_eq!(left(&sent, backward), ["content-type", "server-timing"]);
        assert_eq!(
            left(&TOLD, backward),
            ["turnpike-caught-up", "turnpike-cursor"],
            "but where a poll goes on it does"
        );
    }
}
