//! The one place where a service's errors become gRPC statuses.
//!
//! What the client reads never holds what the log reads: an internal error says only that it is one. Details are those
//! of google.rpc: PreconditionFailure, ResourceInfo, and BadRequest (see [`crate::Violations`]). A status travels in
//! headers, of which a client takes 16 KiB: what quotes the client is cut, and of many complaints the first are named.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

/// The most fields or preconditions that a status names.
const MAX_NAMED: usize = 32;
/// The most bytes of a name or description.
const MAX_TEXT: usize = 120;
/// The most bytes of a message.
const MAX_MESSAGE: usize = 1024;

/// INVALID_ARGUMENT with the fields and what is wrong with each.
pub(crate) fn invalid(fields: Vec<(String, String)>) -> Status {
    let message = summary(&fields);
    let fields = fields.iter().take(MAX_NAMED);
    let fields: Vec<_> = fields
        .map(|(field, description)| FieldViolation::new(cut(field, MAX_TEXT), cut(description, MAX_TEXT)))
        .collect();
    Status::with_error_details(Code::InvalidArgument, message, ErrorDetails::with_bad_request(fields))
}

/// NOT_FOUND of a resource by its name: `products/42`.
pub fn not_found(resource: &str) -> Status {
    let resource = &cut(resource, MAX_TEXT);
    let kind = resource.split('/').next().unwrap_or_default();
    let details = ErrorDetails::with_resource_info(kind, resource, "", "not found");
    Status::with_error_details(Code::NotFound, format!("{resource} not found"), details)
}

/// FAILED_PRECONDITION with a violation of this type: `ETAG`, `STOCK`, `CART`.
pub fn precondition(kind: &str, subject: &str, description: &str) -> Status {
    preconditions([(kind, subject.to_owned(), description.to_owned())])
}

/// FAILED_PRECONDITION with several violations, each of a type, a subject and a description.
pub fn preconditions<'a>(violations: impl IntoIterator<Item = (&'a str, String, String)>) -> Status {
    let violations: Vec<_> = violations.into_iter().collect();
    let message =
        summary(&violations.iter().map(|(_, subject, text)| (subject.clone(), text.clone())).collect::<Vec<_>>());
    let named = violations.into_iter().take(MAX_NAMED).map(|(kind, subject, description)| {
        PreconditionViolation::new(kind, cut(&subject, MAX_TEXT), cut(&description, MAX_TEXT))
    });
    let details = ErrorDetails::with_precondition_failure(named.collect::<Vec<_>>());
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

/// Database errors: Unavailable → UNAVAILABLE, Query → INTERNAL (logged; the client reads no SQL), Unique →
/// ALREADY_EXISTS.
pub fn from_database(error: database::Error) -> Status {
    match error {
        database::Error::Unavailable(reason) => {
            tracing::warn!(reason, "the database is unavailable");
            Status::unavailable("the database is unavailable; try again")
        }
        database::Error::Unique { .. } => Status::already_exists("exists already"),
        database::Error::Query(reason) => internal(reason),
    }
}

/// INTERNAL; only the log reads why.
pub fn internal(reason: impl std::fmt::Display) -> Status {
    tracing::error!(%reason, "internal error");
    Status::internal("internal error")
}

/// What another service answered, as this one answers for it: what may pass when tried again stays what it is,
/// everything else means that this service called it wrongly.
pub fn from_callee(callee: &str, status: &Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => {
            Status::unavailable(format!("{callee} is unavailable; try again"))
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            Status::deadline_exceeded(format!("{callee} did not answer in time"))
        }
        code => internal(format_args!("{callee} answered {code:?}: {}", status.message())),
    }
}

/// All of them in a sentence, as far as it stays short.
pub(crate) fn summary(complaints: &[(String, String)]) -> String {
    let mut message = String::new();
    for (n, (name, description)) in complaints.iter().enumerate() {
        if n == MAX_NAMED || message.len() + name.len() + description.len() > MAX_MESSAGE {
            return format!("{}; {} in all", cut(&message, MAX_MESSAGE), complaints.len());
        }
        let separator = if n == 0 { "" } else { "; " };
        message.push_str(&format!("{separator}{name} {description}"));
    }
    message
}

fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stays_small_whatever_it_quotes() {
        let long = "ü".repeat(100_000);
        let fields: Vec<_> = (0..1_000).map(|n| (format!("lines[{n}].{long}"), long.clone())).collect();
        let short = (0..1_000).map(|n| ("STOCK", format!("products/{n}"), "is short".to_owned()));
        for status in [invalid(fields), not_found(&long), preconditions(short)] {
            let headers = status.into_http::<()>().into_parts().0.headers;
            let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(size < 16 * 1024, "{size} bytes: {headers:?}");
        }
    }

    #[test]
    fn a_client_reads_no_sql() {
        let status = from_database(database::Error::Query("SELECT secret FROM accounts".to_owned()));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }

    #[test]
    fn every_failed_precondition_is_named() {
        let short = |id: &str| ("STOCK", format!("products/{id}"), "is short".to_owned());
        let status = preconditions([short("a"), short("b")]);
        assert_eq!(status.message(), "products/a is short; products/b is short");
        assert_eq!(status.get_error_details().precondition_failure().unwrap().violations.len(), 2);
    }

    #[test]
    fn a_callee_that_is_away_may_be_tried_again_and_one_that_refuses_is_our_bug() {
        assert_eq!(from_callee("product", &Status::unavailable("")).code(), Code::Unavailable);
        assert_eq!(from_callee("product", &Status::invalid_argument("")).code(), Code::Internal);
        assert_eq!(from_callee("product", &Status::deadline_exceeded("")).code(), Code::DeadlineExceeded);
    }
}
