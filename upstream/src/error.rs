//! Why an upstream gave no answer: to the caller ([`Error`]), and to the retry ([`Failure`]).

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

/// Why an upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No endpoint could be reached: 503 / UNAVAILABLE. The service did nothing.
    Unreachable,
    /// A cap of the upstream refused the request: 503 / UNAVAILABLE. The service was not asked.
    Full,
    /// The breaker refused the request, and may let one pass after this time: 503 / UNAVAILABLE. The service was not asked.
    Open { retry_after: Duration },
    /// It took longer than the deadline: 504 / DEADLINE_EXCEEDED.
    Deadline,
    /// The connection broke, or the answer was not valid, after the request may have been read: 502 / UNAVAILABLE.
    Broken,
    /// The request's body could not be read from downstream: 400.
    RequestBody,
}

#[derive(Debug, thiserror::Error)]
#[error("upstream {upstream}: {detail}")]
pub struct Error {
    pub kind: ErrorKind,
    pub upstream: String,
    pub detail: Cow<'static, str>,
}

/// Why one try gave no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub detail: Cow<'static, str>,
}

/// What is known of a try that failed; everything the retry decides follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No address is known.
    Unknown,
    /// No connection could be made.
    Connect,
    /// The connection was closed before the request was read: the service saw nothing of it.
    Closed,
    /// The service said that it did nothing (REFUSED_STREAM).
    Refused,
    /// The service answered UNAVAILABLE (gRPC).
    Unavailable,
    /// The service answered with a status that is tried again (HTTP).
    Status(StatusCode),
    /// It took longer than a try may; paid for already.
    Slow,
    /// The connection broke after the request may have been read.
    Broken,
    /// The request's body can't be read any further.
    RequestBody,
    /// A limit of ours.
    Limit(Cap),
}

/// What an upstream has only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    Connections,
    Pending,
    Requests,
}

impl Cap {
    /// Its metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
        }
    }
}

impl Failure {
    pub fn new(cause: Cause, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl Cause {
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Unknown | Self::Connect | Self::Closed | Self::Refused | Self::Unavailable => ErrorKind::Unreachable,
            Self::Limit(_) => ErrorKind::Full,
            Self::Broken | Self::Status(_) => ErrorKind::Broken,
            Self::Slow => ErrorKind::Deadline,
            Self::RequestBody => ErrorKind::RequestBody,
        }
    }

    /// Whether a request may be sent again after this.
    pub fn allows_retry(self, idempotent: bool) -> bool {
        match self {
            Self::Connect | Self::Closed | Self::Refused => true,
            Self::Unavailable | Self::Status(_) | Self::Slow | Self::Broken => idempotent,
            Self::Unknown | Self::RequestBody | Self::Limit(_) => false,
        }
    }

    /// The service spent nothing on it, so a retry adds nothing to what it has to do: no budget, no wait.
    pub fn cost_nothing(self) -> bool {
        matches!(self, Self::Connect | Self::Closed)
    }

    /// Its metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => "429",
            Self::Status(StatusCode::BAD_GATEWAY) => "502",
            Self::Status(StatusCode::GATEWAY_TIMEOUT) => "504",
            Self::Status(_) => "503",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::RequestBody => "request_body",
            Self::Limit(cap) => cap.label(),
        }
    }
}
