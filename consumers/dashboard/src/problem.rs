//! Error answers (RFC 9457), with the types that the gateway has (docs/errors.md). Which refusal has which status is said
//! here alone.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A problem's type is this and its kind.
const TYPES: &str = "https://turnpike.dev/problems/";

/// An error, as a client is told of it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// Seconds.
    retry_after: Option<u32>,
}

impl Problem {
    /// 401: nobody vouches for the caller.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Who is calling is not known", detail)
    }

    /// 403: the caller is known, and may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The caller may not do this", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub fn method_not_allowed() -> Self {
        let title = "The method is not allowed here";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, "only GET")
    }

    /// 500: a fault of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here", detail)
    }

    /// 503: to be tried again in so many seconds.
    pub fn busy(detail: impl Into<String>, retry_after: u32) -> Self {
        let title = "The service is not available";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), retry_after: None }
    }

    fn document(&self) -> Value {
        let kind = format!("{TYPES}{}", self.kind);
        json!({ "type": kind, "title": self.title, "status": self.status.as_u16(), "detail": self.detail })
    }
}

/// Has every problem name the request it came of, by the ids that the gateway gave it.
pub(crate) async fn name(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let id = request.headers().get("x-request-id").cloned();
    let trace = telemetry::extract(request.headers());
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut document = problem.document();
    document["instance"] = instance.into();
    if let Some(id) = id.as_ref().and_then(|id| id.to_str().ok()) {
        document["request_id"] = id.into();
    }
    if let Some(trace) = trace {
        document["trace_id"] = format!("{:032x}", trace.trace_id).into();
    }
    response.map(|_| Body::from(document.to_string()))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, self.document().to_string()).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `docs/errors.md`: `### kind`, then a line `404 · gRPC 5 NOT_FOUND · gateway, dashboard`.
    #[test]
    fn every_type_is_documented_and_nothing_else_is() {
        let own = [
            Problem::unauthenticated(""),
            Problem::forbidden(""),
            Problem::not_found(""),
            Problem::method_not_allowed(),
            Problem::internal(""),
            Problem::busy("", 1),
        ];
        let own: BTreeMap<_, _> = own.map(|problem| (problem.kind, problem.status.as_u16())).into();
        let guide = include_str!("../../../docs/errors.md");
        let documented = guide.split("\n### ").skip(1).filter_map(|section| {
            let mut lines = section.lines().filter(|line| !line.is_empty());
            let (kind, line) = (lines.next()?, lines.next()?);
            line.rsplit(" · ").next()?.contains("dashboard").then(|| (kind, line[1..4].parse().unwrap()))
        });
        assert_eq!(own, documented.collect());
    }
}
