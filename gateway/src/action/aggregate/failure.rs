//! Why a part has no answer.

use http::{HeaderMap, StatusCode, header};

use crate::{
    action::status,
    error::{Error, ErrorKind},
};

/// For `_meta`, and for the client where the part is required.
#[derive(Debug)]
pub struct Failure {
    /// The lower-case name of a gRPC code, or [`NO_INPUT`].
    pub reason: &'static str,
    /// The part that lacks what this one is asked by, where that is known.
    pub needs: Option<usize>,
    pub error: Box<Error>,
}

/// It was not asked for: what it is asked by is not there.
pub const NO_INPUT: &str = "no_input";

impl Failure {
    pub fn of_status(status: &upstream::grpc::Status) -> Self {
        Self { reason: status::name(status.code), needs: None, error: Box::new(status::error(status)) }
    }

    pub fn no_answer(error: &upstream::Error) -> Self {
        let error = status::no_answer(error);
        Self { reason: reason(error.kind), needs: None, error: error.into() }
    }

    /// An HTTP answer that is none.
    pub fn of_response(status: StatusCode, headers: &HeaderMap) -> Self {
        let kind = match status.as_u16() {
            400 | 412 | 422 => ErrorKind::Invalid,
            401 => ErrorKind::Unauthenticated,
            403 => ErrorKind::Forbidden,
            404 | 410 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            429 => ErrorKind::RateLimited,
            503 => ErrorKind::Unavailable,
            504 => ErrorKind::Timeout,
            _ => ErrorKind::BadGateway,
        };
        let mut error = Error::new(kind, "a part of the answer could not be had").cause(format!("http {status}"));
        if let Some(delay) = headers.get(header::RETRY_AFTER) {
            error = error.header(header::RETRY_AFTER, delay.clone());
        }
        Self { reason: reason(kind), needs: None, error: error.into() }
    }

    /// What came is not what was to come.
    pub fn malformed(cause: impl std::fmt::Display) -> Self {
        let error = Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(cause);
        Self { reason: reason(error.kind), needs: None, error: error.into() }
    }

    /// The answers have more bytes than may be held.
    pub fn too_large() -> Self {
        let error =
            Error::new(ErrorKind::BadGateway, "the answer is too large").cause("more than an aggregate may have");
        Self { reason: "resource_exhausted", needs: None, error: error.into() }
    }

    pub fn late() -> Self {
        let error = Error::new(ErrorKind::Timeout, "the service took too long");
        Self { reason: reason(error.kind), needs: None, error: error.into() }
    }

    /// `needs` has failed, or lacks something.
    pub fn no_input(needs: Option<usize>, cause: impl std::fmt::Display) -> Self {
        let error =
            Error::new(ErrorKind::BadGateway, "a part of the answer lacks what another is asked by").cause(cause);
        Self { reason: NO_INPUT, needs, error: error.into() }
    }
}

fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid_argument",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Forbidden => "permission_denied",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "aborted",
        ErrorKind::RateLimited => "resource_exhausted",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Timeout => "deadline_exceeded",
        _ => "internal",
    }
}
