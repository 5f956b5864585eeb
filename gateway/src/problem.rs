//! An error as its caller reads it: `application/problem+json` (RFC 9457), or a gRPC status. The one place where a status
//! is chosen.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use upstream::Body;

use crate::{
    context::RequestContext,
    error::{Error, ErrorKind, Violation},
};

pub const CONTENT_TYPE: &str = "application/problem+json";
/// A problem's type is this and its kind.
const TYPES: &str = "https://turnpike.dev/problems/";

/// Which request went wrong.
#[derive(Clone, Debug)]
pub struct Occurrence {
    pub request_id: Arc<str>,
    trace_id: u128,
    uri: Uri,
}

impl Occurrence {
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let uri = request.uri().clone();
        match request.extensions().get::<RequestContext>() {
            Some(context) => Self::new(context, uri),
            None => Self { request_id: Arc::from(""), trace_id: 0, uri },
        }
    }

    pub fn new(context: &RequestContext, uri: Uri) -> Self {
        Self { request_id: Arc::clone(&context.request_id), trace_id: context.trace.trace_id, uri }
    }

    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// What a kind of error is in each protocol.
pub struct Status {
    pub http: StatusCode,
    pub grpc: u8,
    kind: &'static str,
    title: &'static str,
}

/// Chooses the status of an error.
pub fn status(kind: ErrorKind) -> Status {
    let (http, grpc, kind, title) = match kind {
        ErrorKind::BadRequest => (400, 3, "bad-request", "The request is not well formed"),
        ErrorKind::Invalid => (400, 3, "invalid", "The request is not valid"),
        ErrorKind::Unauthenticated => (401, 16, "unauthenticated", "Who is calling is not known"),
        ErrorKind::Forbidden => (403, 7, "forbidden", "The caller may not do this"),
        ErrorKind::NotFound => (404, 5, "not-found", "There is no such thing"),
        ErrorKind::MethodNotAllowed => (405, 12, "method-not-allowed", "The method is not allowed here"),
        ErrorKind::NotAcceptable => (406, 3, "not-acceptable", "The answer can't be had in this form"),
        ErrorKind::Conflict => (409, 10, "conflict", "The request conflicts with another"),
        ErrorKind::KeyReused => (422, 3, "key-reused", "The Idempotency-Key belongs to another request"),
        ErrorKind::PreconditionFailed => (412, 9, "precondition-failed", "The precondition does not hold"),
        ErrorKind::BodyTooLarge => (413, 11, "body-too-large", "The request body is too large"),
        ErrorKind::UriTooLong => (414, 3, "uri-too-long", "The URI is too long"),
        ErrorKind::UnsupportedMediaType => {
            (415, 3, "unsupported-media-type", "The body is in a form not understood here")
        }
        ErrorKind::HeadersTooLarge => (431, 3, "headers-too-large", "The request headers are too large"),
        ErrorKind::RateLimited => (429, 8, "rate-limited", "Too many requests"),
        ErrorKind::ClientClosed => (499, 1, "client-closed", "The client went away"),
        ErrorKind::Internal => (500, 13, "internal", "Something went wrong here"),
        ErrorKind::Unimplemented => (501, 12, "unimplemented", "This is not implemented"),
        ErrorKind::BadGateway => (502, 14, "bad-gateway", "The service behind gave no valid answer"),
        ErrorKind::Unavailable => (503, 14, "unavailable", "The service is not available"),
        ErrorKind::Overloaded => (503, 14, "overloaded", "Too much is going on"),
        ErrorKind::Timeout => (504, 4, "timeout", "The answer took too long"),
    };
    Status { http: StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), grpc, kind, title }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    request_id: &'a str,
    trace_id: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Violation],
}

/// The response to an error.
pub fn respond(error: &Error, occurrence: &Occurrence) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes::Bytes::from(document(error, occurrence))));
    *response.status_mut() = status(error.kind).http;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    finish(response, error)
}

/// The problem document alone, for an error within an answer that has begun.
pub fn document(error: &Error, occurrence: &Occurrence) -> Vec<u8> {
    let status = status(error.kind);
    let problem = Problem {
        r#type: format!("{TYPES}{}", status.kind),
        title: status.title,
        status: status.http.as_u16(),
        detail: &error.detail,
        instance: occurrence.uri.path(),
        request_id: &occurrence.request_id,
        trace_id: occurrence.trace_id(),
        errors: &error.violations,
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The same for a caller that speaks gRPC: an answer of trailers alone.
pub fn respond_grpc(error: &Error) -> Response<Body> {
    let status = status(error.kind);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status.grpc)));
    let message = percent_encoding::utf8_percent_encode(&error.detail, GRPC_MESSAGE).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    finish(response, error)
}

/// What a gRPC message must escape: all but printable ASCII, and the percent sign.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

fn finish(mut response: Response<Body>, error: &Error) -> Response<Body> {
    if error.kind == ErrorKind::Unauthenticated {
        // RFC 9110, section 15.5.2: whoever is not known is told how to be, also by a service's own refusal.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"turnpike\""));
    }
    for (name, value) in &error.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_caller_reads_a_status() {
        let response = respond_grpc(&Error::new(ErrorKind::NotFound, "no route é"));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "5");
        assert_eq!(response.headers()["grpc-message"], "no route %C3%A9");
    }
}
