//! From a gRPC status, or from no answer at all, to the gateway's error. The only place that knows the table.

use std::time::Duration;

use http::{HeaderValue, header};
use prost::Message as _;
use upstream::grpc;

use super::rpc_status::{BadRequest, PreconditionFailure, RetryInfo, Status};
use crate::error::{Error, ErrorKind, Violation};

const INVALID_ARGUMENT: i32 = 3;
/// When to come back where there may be room any moment.
const SOON: Duration = Duration::from_secs(1);

const FAILED_PRECONDITION: i32 = 9;

/// The error a client gets for the failed gRPC call. What a service says of its own faults stays in the log.
pub fn error(status: &grpc::Status) -> Error {
    let cause = format!("grpc {} {}: {}", status.code, name(status.code), status.message);
    if let Some(local) = status.local {
        return unanswered(local).cause(cause);
    }
    let details = Status::decode(status.details.clone()).unwrap_or_default();
    let mut error = match status.code {
        FAILED_PRECONDITION => precondition(&details),
        INVALID_ARGUMENT => Error::new(ErrorKind::Invalid, "the request is not valid").violations(fields(&details)),
        code => Error::new(kind(code), concealed(code).unwrap_or("the request could not be fulfilled")),
    };
    if concealed(status.code).is_none() && !status.message.is_empty() {
        error.detail = status.message.clone().into();
    }
    if let Some(delay) = details.detail::<RetryInfo>("google.rpc.RetryInfo").and_then(|info| info.retry_delay) {
        let seconds = delay.seconds.max(0).saturating_add(i64::from(delay.nanos > 0));
        error = error.header(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    error.cause(cause)
}

/// The error a client gets where the upstream gave no answer.
pub fn no_answer(error: &upstream::Error) -> Error {
    unanswered(error.kind).cause(error)
}

/// The lower-case name of a gRPC code: `not_found`.
pub fn name(code: i32) -> &'static str {
    match code {
        0 => "ok",
        1 => "cancelled",
        3 => "invalid_argument",
        4 => "deadline_exceeded",
        5 => "not_found",
        6 => "already_exists",
        7 => "permission_denied",
        8 => "resource_exhausted",
        9 => "failed_precondition",
        10 => "aborted",
        11 => "out_of_range",
        12 => "unimplemented",
        13 => "internal",
        14 => "unavailable",
        15 => "data_loss",
        16 => "unauthenticated",
        _ => "unknown",
    }
}

fn kind(code: i32) -> ErrorKind {
    match code {
        1 => ErrorKind::ClientClosed,
        3 | 9 | 11 => ErrorKind::Invalid,
        4 => ErrorKind::Timeout,
        5 => ErrorKind::NotFound,
        6 | 10 => ErrorKind::Conflict,
        7 => ErrorKind::Forbidden,
        8 => ErrorKind::RateLimited,
        12 => ErrorKind::Unimplemented,
        14 => ErrorKind::Unavailable,
        16 => ErrorKind::Unauthenticated,
        _ => ErrorKind::Internal,
    }
}

/// What is said instead of the service's own words, where those are about its inside.
fn concealed(code: i32) -> Option<&'static str> {
    match kind(code) {
        ErrorKind::Internal => Some("the service failed"),
        ErrorKind::Unavailable => Some("the service is not available"),
        ErrorKind::Timeout => Some("the service took too long"),
        ErrorKind::Unimplemented => Some("the service does not offer this"),
        _ => None,
    }
}

fn unanswered(kind: upstream::ErrorKind) -> Error {
    match kind {
        upstream::ErrorKind::Unreachable => Error::new(ErrorKind::Unavailable, "the service is not available"),
        upstream::ErrorKind::Full => Error::new(ErrorKind::UpstreamFull, "the service has enough to do")
            .header(header::RETRY_AFTER, seconds(SOON)),
        upstream::ErrorKind::Open { retry_after } => {
            Error::new(ErrorKind::BreakerOpen, "the service fails, and is given a rest")
                .header(header::RETRY_AFTER, seconds(retry_after))
        }
        upstream::ErrorKind::Deadline => Error::new(ErrorKind::Timeout, "the service took too long"),
        upstream::ErrorKind::Broken => Error::new(ErrorKind::BadGateway, "the service gave no valid answer"),
        upstream::ErrorKind::RequestBody => Error::new(ErrorKind::BadRequest, "the request body could not be read"),
    }
}

/// Whole ones, at least 1.
fn seconds(time: Duration) -> HeaderValue {
    HeaderValue::from(time.as_secs() + u64::from(time.subsec_nanos() > 0 || time.is_zero()))
}

fn precondition(details: &Status) -> Error {
    let failure: PreconditionFailure = details.detail("google.rpc.PreconditionFailure").unwrap_or_default();
    if failure.violations.iter().any(|violation| violation.r#type == "ETAG") {
        return Error::new(ErrorKind::PreconditionFailed, "the resource has changed since it was read");
    }
    let violations = failure.violations.into_iter();
    Error::new(ErrorKind::Invalid, "the request can't be fulfilled as things are").violations(
        violations.map(|violation| Violation { field: violation.subject, reason: violation.description }).collect(),
    )
}

fn fields(details: &Status) -> Vec<Violation> {
    let bad: BadRequest = details.detail("google.rpc.BadRequest").unwrap_or_default();
    let violations = bad.field_violations.into_iter();
    violations
        .map(|violation| Violation { field: lower_camel(&violation.field), reason: violation.description })
        .collect()
}

/// `lines[2].product_id` as JSON has it: `lines[2].productId`.
fn lower_camel(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut upper = false;
    for character in path.chars() {
        match character {
            '_' => upper = true,
            _ if upper => {
                text.extend(character.to_uppercase());
                upper = false;
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: i32, message: &str, details: Vec<prost_types::Any>) -> grpc::Status {
        let details = Status { code, message: message.to_owned(), details }.encode_to_vec().into();
        grpc::Status { code, message: message.to_owned(), details, metadata: http::HeaderMap::new(), local: None }
    }

    fn precondition_failure(r#type: &str) -> prost_types::Any {
        let (subject, description) = ("products/1".to_owned(), "only 2 left".to_owned());
        let violation = PreconditionViolation { r#type: r#type.to_owned(), subject, description };
        any("google.rpc.PreconditionFailure", &PreconditionFailure { violations: vec![violation] })
    }

    use super::super::rpc_status::{FieldViolation, PreconditionViolation, any};

    #[test]
    fn field_violations_are_named_as_json_has_them() {
        let violation = FieldViolation { field: "lines[2].product_id".into(), description: "unknown".into() };
        let detail = any("google.rpc.BadRequest", &BadRequest { field_violations: vec![violation] });
        let error = error(&status(3, "2 fields are wrong", vec![detail]));
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert_eq!(error.detail, "2 fields are wrong");
        assert_eq!(error.violations, [Violation { field: "lines[2].productId".into(), reason: "unknown".into() }]);
    }

    #[test]
    fn a_stale_etag_is_a_failed_precondition_and_any_other_a_bad_request() {
        assert_eq!(error(&status(9, "", vec![precondition_failure("ETAG")])).kind, ErrorKind::PreconditionFailed);
        let error = error(&status(9, "", vec![precondition_failure("STOCK")]));
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert_eq!(error.violations, [Violation { field: "products/1".into(), reason: "only 2 left".into() }]);
    }

    #[test]
    fn retry_info_becomes_retry_after_rounded_up() {
        let info = RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 1 }) };
        let error = error(&status(8, "slow down", vec![any("google.rpc.RetryInfo", &info)]));
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert_eq!(error.headers, [(header::RETRY_AFTER, HeaderValue::from_static("2"))]);
    }

    #[test]
    fn who_was_not_asked_says_when_to_come_back() {
        let told = |kind| {
            let error = unanswered(kind);
            (error.kind, error.headers[0].1.to_str().unwrap().to_owned())
        };
        let open = |millis| upstream::ErrorKind::Open { retry_after: Duration::from_millis(millis) };
        assert_eq!(told(open(6001)), (ErrorKind::BreakerOpen, "7".to_owned()));
        assert_eq!(told(open(3000)), (ErrorKind::BreakerOpen, "3".to_owned()));
        assert_eq!(told(open(0)), (ErrorKind::BreakerOpen, "1".to_owned()));
        assert_eq!(told(upstream::ErrorKind::Full), (ErrorKind::UpstreamFull, "1".to_owned()));
    }

    #[test]
    fn what_a_service_says_of_its_own_faults_stays_in_the_log() {
        for code in [2, 4, 12, 13, 14, 15, 99] {
            let error = error(&status(code, "password of db1 is hunter2", vec![]));
            assert!(!error.detail.contains("hunter2"), "{code}");
            assert!(error.cause.unwrap().contains("hunter2"), "{code}");
        }
    }

    #[test]
    fn details_that_do_not_decode_are_no_details() {
        let mut broken = status(3, "bad", vec![]);
        broken.details = bytes::Bytes::from_static(b"\xff\xff\xff");
        assert_eq!(error(&broken).violations, []);
    }
}
