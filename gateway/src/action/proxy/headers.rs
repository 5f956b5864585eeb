//! Which header fields of a request cross the gateway, and what it adds: who the client is and how it came, which nobody
//! but the gateway may say. What is meant for one hop (RFC 9110, section 7.6.1) is `upstream`'s affair, but for one thing.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use upstream::Body;

use super::super::metadata::{PRINCIPAL, REQUEST_ID};
use crate::{context::RequestContext, layers::request_id::Peer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Makes the downstream request's header that of the upstream request.
pub fn forward(request: &mut Request<Body>, context: &RequestContext) {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let ip = match request.extensions().get::<Peer>() {
        Some(peer) => Some(peer.ip.clone()),
        None => HeaderValue::try_from(context.client.ip().to_string()).ok(),
    };
    let headers = request.headers_mut();
    drop_named_by_connection(headers);
    // Downstream it has been answered already.
    headers.remove(header::EXPECT);
    if let Some(ip) = ip {
        headers.insert(FORWARDED_FOR, ip);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    match authority.or_else(|| headers.get(header::HOST).cloned()) {
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

/// Before anything is added: a client that writes `Connection: turnpike-principal` must not have that field dropped later,
/// when it is the gateway's own.
fn drop_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let values = headers.get_all(header::CONNECTION).iter();
    let named = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: Vec<_> = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}
