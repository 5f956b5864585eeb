//! What an answer, or that there is none, says of who was asked. The same for an endpoint and for the service as a whole.
//!
//! A failure: no connection; one that breaks, or is closed before it took a request; a refused stream; silence until the
//! deadline that the caller of this crate has set (not a shorter one that a client sent), unless the request's own body was
//! still to come; the statuses 502, 503 and 504, and gRPC's UNAVAILABLE where it is all there is of an answer. Everything
//! else a service answers, a 500 included, says something of the request and not of who answers. What happens after the
//! head of an answer doesn't count, nor what the client gives up.

use http::{HeaderMap, Response, StatusCode};

use crate::{
    Body, Protocol,
    error::{Cause, Failure},
    grpc,
    standing::Event,
};

/// What the head of an answer says of who sent it.
pub(crate) fn of_head(protocol: Protocol, status: StatusCode, headers: &HeaderMap) -> Event {
    let is_failure = matches!(status.as_u16(), 502..=504)
        || (protocol == Protocol::Grpc && headers.get(grpc::STATUS).is_some_and(|status| status == "14"));
    if is_failure { Event::Failed } else { Event::Answered }
}

/// A failure in words.
pub(crate) fn said(status: StatusCode, headers: &HeaderMap) -> String {
    if headers.contains_key(grpc::STATUS) { "UNAVAILABLE".to_owned() } else { status.to_string() }
}

/// What it says that there is none; None: nothing.
pub(crate) fn of_failure(protocol: Protocol, cause: Cause) -> Option<Event> {
    match cause {
        Cause::Connect => Some(Event::Absent),
        // An HTTP/2 connection that says it goes away does so in good order.
        Cause::Closed => (protocol == Protocol::Http1).then_some(Event::Failed),
        Cause::Refused | Cause::Unavailable | Cause::Status(_) | Cause::Slow | Cause::Broken => Some(Event::Failed),
        Cause::Unknown | Cause::RequestBody | Cause::Limit(_) => None,
    }
}

/// What the answer to a request says of the service, every retry included.
pub(crate) fn of_answer(protocol: Protocol, answer: &Result<Response<Body>, Failure>) -> Option<Event> {
    match answer {
        Ok(response) => Some(of_head(protocol, response.status(), response.headers())),
        Err(failure) => of_failure(protocol, failure.cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_says_it_cannot_is_a_failure() {
        let of = |status: u16| of_head(Protocol::Http1, StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for status in [200, 101, 304, 400, 404, 429, 500, 501] {
            assert_eq!(of(status), Event::Answered, "{status}");
        }
        for status in [502, 503, 504] {
            assert_eq!(of(status), Event::Failed, "{status}");
        }
    }

    #[test]
    fn a_grpc_status_counts_where_grpc_is_spoken() {
        let of = |protocol, code: &str| {
            let headers = HeaderMap::from_iter([(grpc::STATUS, code.parse().unwrap())]);
            of_head(protocol, StatusCode::OK, &headers)
        };
        assert_eq!(of(Protocol::Grpc, "14"), Event::Failed);
        assert_eq!(of(Protocol::Http2, "14"), Event::Answered);
        for code in ["0", "2", "4", "5", "8", "13"] {
            assert_eq!(of(Protocol::Grpc, code), Event::Answered, "{code}");
        }
    }

    #[test]
    fn an_orderly_end_of_a_connection_is_no_failure() {
        assert_eq!(of_failure(Protocol::Grpc, Cause::Closed), None);
        assert_eq!(of_failure(Protocol::Http1, Cause::Closed), Some(Event::Failed), "accepted, and hung up on");
    }
}
