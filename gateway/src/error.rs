//! What can go wrong with a request, by kind. The status a client reads is chosen in `problem.rs` alone.

use std::borrow::Cow;

/// One bad field of a request.
pub use protojson::Violation;

/// An error on a request's way. `detail` is for the client, `cause` for the log; they never mix.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    /// A sentence for the client.
    pub detail: Cow<'static, str>,
    /// For the log only.
    pub cause: Option<String>,
    /// Field violations, for `errors[]`.
    pub violations: Vec<Violation>,
    /// Header fields that belong to the answer: `Allow`, `Retry-After`.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// Each has one problem type, title and status, in `problem.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    BadRequest,
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    /// An Idempotency-Key that belongs to another request.
    KeyReused,
    /// The request took too long to arrive.
    RequestTimeout,
    PreconditionFailed,
    BodyTooLarge,
    UnsupportedMediaType,
    HeadersTooLarge,
    UriTooLong,
    RateLimited,
    /// More requests of one caller under way than may be.
    TooManyAtOnce,
    ClientClosed,
    Internal,
    Unimplemented,
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    BadGateway,
    Unavailable,
    /// The service fails, and is given a rest.
    BreakerOpen,
    /// The service is given no more than it may be at once.
    UpstreamFull,
    Overloaded,
    Timeout,
    /// Only what is kept was asked for.
    NotCached,
    /// A part that there is not.
    RangeNotSatisfiable,
}

impl Error {
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), cause: None, violations: Vec::new(), headers: Vec::new() }
    }
    #[must_use]
    pub fn cause(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
    #[must_use]
    pub fn violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }
    #[must_use]
    pub fn header(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}
