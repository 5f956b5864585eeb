//! An error as its caller reads it: `application/problem+json` (RFC 9457), or a gRPC status. The one place where a status
//! is chosen.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use upstream::Body;

use crate::{
    context::RequestContext,
    dialect::Dialect,
    error::{Error, ErrorKind, Violation},
    grpc_problem,
};

pub const CONTENT_TYPE: &str = "application/problem+json";
/// A problem's type is this and its kind.
const TYPES: &str = "https://turnpike.dev/problems/";

/// Which request went wrong, and what its caller speaks.
#[derive(Clone, Debug)]
pub struct Occurrence {
    pub request_id: Arc<str>,
    pub dialect: Dialect,
    trace_id: u128,
    uri: Uri,
}

impl Occurrence {
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let dialect = Dialect::of(request.headers());
        match request.extensions().get::<RequestContext>() {
            Some(context) => Self { dialect, ..Self::new(context, request.uri().clone()) },
            None => Self { uri: request.uri().clone(), ..Self::unknown(dialect) },
        }
    }

    /// Of a caller that speaks no gRPC.
    pub fn new(context: &RequestContext, uri: Uri) -> Self {
        let (request_id, trace_id) = (Arc::clone(&context.request_id), context.trace.trace_id);
        Self { request_id, dialect: Dialect::Http, trace_id, uri }
    }

    /// A request that nobody has named.
    pub fn unknown(dialect: Dialect) -> Self {
        Self { request_id: Arc::from(""), dialect, trace_id: 0, uri: Uri::default() }
    }

    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// What a kind of error is in each protocol.
pub struct Status {
    pub http: StatusCode,
    pub grpc: u8,
    /// The end of its type.
    pub kind: &'static str,
    pub title: &'static str,
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
        ErrorKind::RequestTimeout => (408, 4, "request-timeout", "The request took too long to arrive"),
        ErrorKind::Conflict => (409, 10, "conflict", "The request contradicts what stands"),
        ErrorKind::KeyReused => (422, 3, "key-reused", "The Idempotency-Key belongs to another request"),
        ErrorKind::PreconditionFailed => (412, 9, "precondition-failed", "The precondition does not hold"),
        ErrorKind::BodyTooLarge => (413, 8, "body-too-large", "The request body is too large"),
        ErrorKind::UriTooLong => (414, 3, "uri-too-long", "The URI is too long"),
        ErrorKind::UnsupportedMediaType => {
            (415, 3, "unsupported-media-type", "The body is in a form not understood here")
        }
        ErrorKind::HeadersTooLarge => (431, 3, "headers-too-large", "The request headers are too large"),
        ErrorKind::RateLimited => (429, 8, "rate-limited", "Too many requests"),
        ErrorKind::TooManyAtOnce => (429, 8, "too-many-at-once", "Too many requests at once"),
        ErrorKind::ClientClosed => (499, 1, "client-closed", "The client went away"),
        ErrorKind::Internal => (500, 13, "internal", "Something went wrong here"),
        ErrorKind::Unimplemented => (501, 12, "unimplemented", "This is not implemented"),
        ErrorKind::BadGateway => (502, 14, "bad-gateway", "The service behind gave no valid answer"),
        ErrorKind::Unavailable => (503, 14, "unavailable", "The service is not available"),
        ErrorKind::BreakerOpen => (503, 14, "breaker-open", "The service fails, and is given a rest"),
        ErrorKind::UpstreamFull => (503, 14, "upstream-full", "The service has enough to do"),
        ErrorKind::Overloaded => (503, 14, "overloaded", "Too much is going on"),
        ErrorKind::VersionNotSupported => (505, 12, "version-not-supported", "The version of HTTP is not supported"),
        ErrorKind::Timeout => (504, 4, "timeout", "The answer took too long"),
        ErrorKind::NotCached => (504, 14, "not-cached", "The answer is not kept here"),
        ErrorKind::RangeNotSatisfiable => (416, 11, "range-not-satisfiable", "There is no such part of the answer"),
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

/// The URI that names a kind of problem.
pub fn type_of(kind: &str) -> String {
    format!("{TYPES}{kind}")
}

/// The response to an error, in what its caller speaks.
pub fn respond(error: &Error, occurrence: &Occurrence) -> Response<Body> {
    let mut response = if occurrence.dialect.is_grpc() {
        grpc_problem::answer(error, occurrence)
    } else {
        let mut response = Response::new(Body::from(bytes::Bytes::from(document(error, occurrence))));
        *response.status_mut() = status(error.kind).http;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let challenged = error.headers.iter().any(|(name, _)| *name == header::WWW_AUTHENTICATE);
    if error.kind == ErrorKind::Unauthenticated && !challenged {
        // RFC 9110, section 15.5.2: whoever is not known is told how to be, also by a service's own refusal.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"turnpike\""));
    }
    for (name, value) in &error.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

/// The problem document alone, for an error within an answer that has begun.
pub fn document(error: &Error, occurrence: &Occurrence) -> Vec<u8> {
    let status = status(error.kind);
    let problem = Problem {
        r#type: type_of(status.kind),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    /// Status and gRPC code of every type, as `status` has them.
    fn in_code() -> BTreeMap<String, (u16, u8)> {
        let source = include_str!("problem.rs");
        let table = source.split("match kind {").nth(1).unwrap().split("};").next().unwrap();
        let rows = table.split('(').skip(1).map(|row| {
            let mut cells = row.split(", ");
            let (http, grpc) = (cells.next().unwrap().parse().unwrap(), cells.next().unwrap().parse().unwrap());
            (cells.next().unwrap().trim_matches('"').to_owned(), (http, grpc))
        });
        let rows: BTreeMap<_, _> = rows.collect();
        assert!(rows.len() > 20 && rows.len() == table.matches("ErrorKind::").count());
        rows
    }

    /// The same as `docs/errors.md` has them: `### kind`, then a line `404 · gRPC 5 NOT_FOUND · gateway, broker`.
    fn documented() -> BTreeMap<String, (u16, u8)> {
        let text = include_str!("../../docs/errors.md");
        let sections = text.split("\n### ").skip(1).filter_map(|section| {
            let mut lines = section.lines();
            let kind = lines.next()?.to_owned();
            let line = lines.find(|line| !line.is_empty())?;
            let numbers: Vec<_> = line.split(|character: char| !character.is_ascii_digit()).collect();
            let mut numbers = numbers.into_iter().filter(|number| !number.is_empty());
            let who = line.rsplit(" · ").next()?;
            who.contains("gateway")
                .then(|| (kind, (numbers.next().unwrap().parse().unwrap(), numbers.next().unwrap().parse().unwrap())))
        });
        sections.collect()
    }

    #[test]
    fn every_type_is_documented_and_nothing_else_is() {
        assert_eq!(in_code(), documented());
    }
}
