//! Why a request is refused, as its caller reads it: `application/problem+json` (RFC 9457), or the `error` of a WebSocket
//! frame. The one place where a status is chosen.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bus::Refused;
use events::EnvelopeError;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

const CONTENT_TYPE: &str = "application/problem+json";
/// A problem's type is this and its code.
const TYPES: &str = "https://turnpike.dev/problems/";
/// How long a client shall wait that found the bus away.
const AWAY: Duration = Duration::from_secs(1);
/// How long one shall wait whose event can't wait, because too many do.
const CROWDED: Duration = Duration::from_secs(30);

/// A refusal. What the log alone may read is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub kind: Kind,
    /// A lowercase fragment; names the field where there is one.
    pub detail: Cow<'static, str>,
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
    /// Where another version was expected: the one that its key has.
    pub current: Option<u64>,
}

/// What kind of refusal; each has its status and its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request contradicts its own rules; the detail names the field.
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// It contradicts what stands.
    Conflict,
    /// The delivery is somebody else's by now, or is settled.
    LeaseLost,
    /// What was asked for is no more, and never will be again.
    Gone,
    TooLarge,
    UnsupportedMediaType,
    /// The caller has, or does, too much of it.
    TooMany,
    /// The queue holds as much as it may.
    QueueFull,
    /// It is part of the protocol, and not of this version of the broker.
    NotSupported,
    /// Our fault; the log says which.
    Internal,
    /// The bus is away, or this node is full.
    Unavailable,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::LeaseLost => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Self::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What a program tells it by: the end of a problem's type, and the `code` of a WebSocket's error.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::LeaseLost => "lease-lost",
            Self::Gone => "gone",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::TooMany => "too-many",
            Self::QueueFull => "queue-full",
            Self::NotSupported => "not-supported",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is not valid",
            Self::Unauthenticated => "Who is calling is not known",
            Self::Forbidden => "The caller may not do this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::Conflict => "The request contradicts what stands",
            Self::LeaseLost => "The lease is lost",
            Self::Gone => "It is no more",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The body is in a form not understood here",
            Self::TooMany => "Too many at once",
            Self::QueueFull => "The queue is full",
            Self::NotSupported => "This is not supported",
            Self::Internal => "Something went wrong here",
            Self::Unavailable => "The service is not available",
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, current: None }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Kind::Unavailable, detail) }
    }
}

impl From<bus::Error> for Problem {
    fn from(error: bus::Error) -> Self {
        match error {
            bus::Error::Invalid(detail) => Self::invalid(detail),
            error @ (bus::Error::NoGroup(_) | bus::Error::NoQueue(_)) => Self::not_found(error.to_string()),
            error @ bus::Error::NotGiven(_) => not_given(&error),
            bus::Error::Conflict(detail) => Self::new(Kind::Conflict, detail),
            bus::Error::Unavailable(reason) => {
                tracing::warn!(reason, "the bus is away");
                Self::unavailable("the bus is away", AWAY)
            }
        }
    }
}

fn not_given(error: &bus::Error) -> Problem {
    Problem::new(Kind::Conflict, format!("{error}; allow_degraded=true takes what it can give"))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(detail) => Self::invalid(detail),
            refused @ Refused::TooLarge { .. } => Self::new(Kind::TooLarge, refused.to_string()),
            refused @ Refused::Full { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Kind::QueueFull, refused.to_string()) }
            }
            refused @ Refused::Waiting { .. } => {
                Self { retry_after: Some(CROWDED), ..Self::new(Kind::TooMany, refused.to_string()) }
            }
            refused @ Refused::VersionConflict { current } => {
                Self { current: Some(current), ..Self::new(Kind::Conflict, refused.to_string()) }
            }
            refused => Self::new(Kind::Conflict, refused.to_string()),
        }
    }
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        let kind = if error.is_too_large() { Kind::TooLarge } else { Kind::Invalid };
        Self::new(kind, error.to_string())
    }
}

impl Problem {
    /// As it stands beside an item of a batch.
    pub(crate) fn brief(&self) -> Value {
        let mut error =
            json!({ "status": self.kind.status().as_u16(), "code": self.kind.code(), "detail": self.detail });
        if let Some(current) = self.current {
            error["current"] = current.into();
        }
        error
    }

    fn document(&self) -> Value {
        let mut document = json!({
            "type": format!("{TYPES}{}", self.kind.code()),
            "title": self.kind.title(),
            "status": self.kind.status().as_u16(),
            "detail": self.detail,
        });
        if let Some(current) = self.current {
            document["current"] = current.into();
        }
        document
    }
}

/// A wait as it is told: never 0, for nobody would wait.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
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
        let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.kind.status(), headers, self.document().to_string()).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ALL: [Kind; 15] = [
        Kind::Invalid,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::Conflict,
        Kind::LeaseLost,
        Kind::Gone,
        Kind::TooLarge,
        Kind::UnsupportedMediaType,
        Kind::TooMany,
        Kind::QueueFull,
        Kind::NotSupported,
        Kind::Internal,
        Kind::Unavailable,
    ];

    /// `docs/errors.md`: `### kind`, then a line `410 · broker`.
    #[test]
    fn every_type_is_documented_and_nothing_else_is() {
        let own: BTreeMap<_, _> = ALL.map(|kind| (kind.code(), kind.status().as_u16())).into();
        assert_eq!(
            own.len(),
            include_str!("problem.rs").matches("            Self::").count() / 3,
            "not all stand in ALL"
        );
        let guide = include_str!("../../docs/errors.md");
        let documented = guide.split("\n### ").skip(1).filter_map(|section| {
            let mut lines = section.lines().filter(|line| !line.is_empty());
            let (kind, line) = (lines.next()?, lines.next()?);
            line.rsplit(" · ").next()?.contains("broker").then(|| (kind, line[1..4].parse().unwrap()))
        });
        assert_eq!(own, documented.collect());
    }
}
