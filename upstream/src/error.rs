use std::borrow::Cow;

/// Why an upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No endpoint could be reached: 503 / UNAVAILABLE. Nothing was sent.
    Unreachable,
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
