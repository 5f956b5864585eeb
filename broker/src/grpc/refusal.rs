//! Why a call, or one item of it, is refused, as callers of gRPC read it: a status with google.rpc's details, or a
//! `Refusal` in an answer. What went wrong is a [`Problem`], as everywhere; its code is chosen here.

use std::{collections::HashMap, time::Duration};

use proto::turnpike::bus::v1 as wire;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::moment;
use crate::problem::{Kind, Problem};

/// Whose reasons they are.
const DOMAIN: &str = "turnpike.dev";
/// When to try again what is too much now, unless the problem says.
const LATER: Duration = Duration::from_secs(1);

impl Kind {
    fn code_of_grpc(self) -> Code {
        match self {
            Self::Invalid | Self::TooLarge | Self::UnsupportedMediaType => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::NotFound | Self::Gone => Code::NotFound,
            Self::Conflict => Code::FailedPrecondition,
            Self::LeaseLost => Code::Aborted,
            Self::TooMany | Self::QueueFull => Code::ResourceExhausted,
            Self::NotSupported | Self::MethodNotAllowed => Code::Unimplemented,
            Self::Internal => Code::Internal,
            Self::Unavailable => Code::Unavailable,
        }
    }
}

impl Problem {
    fn grpc(&self) -> Code {
        if self.current.is_some() { Code::Aborted } else { self.kind.code_of_grpc() }
    }

    fn reason(&self) -> String {
        match self.current {
            Some(_) => "VERSION_CONFLICT".to_owned(),
            None => self.kind.code().to_ascii_uppercase().replace('-', "_"),
        }
    }

    /// When trying again may help.
    fn later(&self) -> Option<Duration> {
        self.retry_after.or((self.kind == Kind::TooMany).then_some(LATER))
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let version = problem.current.map(|version| ("current_version".to_owned(), version.to_string()));
        let mut details =
            ErrorDetails::with_error_info(problem.reason(), DOMAIN, version.into_iter().collect::<HashMap<_, _>>());
        if let Some(later) = problem.later() {
            details.set_retry_info(Some(later));
        }
        if problem.grpc() == Code::InvalidArgument
            && let (field, description) = split(&problem.detail)
            && !field.is_empty()
        {
            details.add_bad_request_violation(field, description);
        }
        Status::with_error_details(problem.grpc(), problem.detail, details)
    }
}

impl From<Problem> for wire::Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.grpc() as i32,
            reason: problem.reason(),
            retry_after: problem.later().map(moment::wire_duration),
            message: problem.detail.into_owned(),
            current_version: problem.current,
        }
    }
}

/// What becomes of the settlement of a delivery that is somebody else's.
pub(super) fn lease_lost() -> wire::Refusal {
    wire::Refusal {
        code: Code::Aborted as i32,
        reason: "LEASE_LOST".to_owned(),
        message: bus::LeaseLost.to_string(),
        retry_after: None,
        current_version: None,
    }
}

/// The end of a stream that must be opened anew.
pub(super) fn reconnect(reason: &str, message: &str, after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The end of a stream whose client is not heard of.
pub(super) fn silent() -> Status {
    let details = ErrorDetails::with_error_info("SILENT", DOMAIN, HashMap::new());
    Status::with_error_details(Code::Aborted, "nothing was heard of the client for three beats", details)
}

/// The field that a detail names, `events[3].subject`, and what is wrong with it.
fn split(detail: &str) -> (String, &str) {
    let (mut field, mut rest) = (String::new(), detail);
    let is_field = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.[]".contains(c);
    while let Some((part, after)) = rest.split_once(": ")
        && !part.is_empty()
        && part.chars().all(is_field)
    {
        if !field.is_empty() {
            field.push('.');
        }
        field.push_str(part);
        rest = after;
    }
    (field, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_its_path() {
        for (detail, field, rest) in [
            ("subject: must not be empty", "subject", "must not be empty"),
            ("events[3]: reply_to: is not known", "events[3].reply_to", "is not known"),
            ("events[0].json: is not JSON: expected value", "events[0].json", "is not JSON: expected value"),
            ("the bus is away", "", "the bus is away"),
            ("Name: x", "", "Name: x"),
        ] {
            assert_eq!(split(detail), (field.to_owned(), rest), "{detail}");
        }
    }

    #[test]
    fn a_status_says_what_a_program_goes_by() {
        let status = Status::from(Problem::invalid("events[1].id: must not be empty"));
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details.error_info().unwrap().reason, "INVALID");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "events[1].id");
        let conflict = Problem::from(bus::Refused::VersionConflict { current: 7 });
        assert_eq!(wire::Refusal::from(conflict.clone()).current_version, Some(7));
        let status = Status::from(conflict);
        assert_eq!(
            (status.code(), &*status.get_error_details().error_info().unwrap().reason),
            (Code::Aborted, "VERSION_CONFLICT")
        );
        let status = Status::from(Problem::new(Kind::TooMany, "too many"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(LATER));
        let retry_after = Duration::from_secs(3);
        let full = wire::Refusal::from(Problem::from(bus::Refused::Full { retry_after }));
        assert_eq!((full.code, &*full.reason), (Code::ResourceExhausted as i32, "QUEUE_FULL"));
        assert_eq!(full.retry_after.map(|wait| wait.seconds), Some(3));
    }
}
