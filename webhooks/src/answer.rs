//! What an answer means: done, done later, failed for now, or never again.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::client::{Answer, Fault};

/// The longest that a receiver may put off the next attempt.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How an attempt ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// 2xx.
    Delivered,
    /// 202: to be acknowledged later.
    Accepted,
    /// An acknowledgement came later, and said that it failed; or none came in time.
    NotAcknowledged,
    /// 3xx, which isn't followed.
    Redirected,
    /// 410: the endpoint wants nothing any more.
    Gone,
    /// 429 or 503 that says when to come again.
    Postponed,
    ClientError,
    ServerError,
    Timeout,
    Unreachable,
    /// Its address isn't allowed.
    Refused,
}

impl Class {
    pub(crate) const ALL: [Self; 11] = [
        Self::Delivered,
        Self::Accepted,
        Self::NotAcknowledged,
        Self::Redirected,
        Self::Gone,
        Self::Postponed,
        Self::ClientError,
        Self::ServerError,
        Self::Timeout,
        Self::Unreachable,
        Self::Refused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::NotAcknowledged => "not_acknowledged",
            Self::Redirected => "redirected",
            Self::Gone => "gone",
            Self::Postponed => "postponed",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether the endpoint works, as far as this tells.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Delivered | Self::Accepted)
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub class: Class,
    pub status: Option<StatusCode>,
    /// None where it succeeded.
    pub error: Option<String>,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// `waits`: the receiver may acknowledge later, so 202 isn't all there is to say.
pub(crate) fn judge(answer: &Result<Answer, Fault>, waits: bool, now: OffsetDateTime) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        Err(fault) => {
            let (class, reason) = match fault {
                Fault::Refused(reason) => (Class::Refused, reason),
                Fault::Timeout(reason) => (Class::Timeout, reason),
                Fault::Unreachable(reason) => (Class::Unreachable, reason),
            };
            return Verdict { class, status: None, error: Some(reason.clone()), retry_after: None };
        }
    };
    let status = answer.status;
    let postponable = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = postponable.then(|| retry_after(&answer.headers, now)).flatten();
    let class = match status {
        StatusCode::ACCEPTED if waits => Class::Accepted,
        StatusCode::GONE => Class::Gone,
        _ if retry_after.is_some() => Class::Postponed,
        status if status.is_success() => Class::Delivered,
        status if status.is_redirection() => Class::Redirected,
        status if status.is_client_error() => Class::ClientError,
        _ => Class::ServerError,
    };
    let error = match class {
        Class::Delivered | Class::Accepted => None,
        Class::Redirected => Some(format!("{status}: redirects aren't followed")),
        _ => Some(status.to_string()),
    };
    Verdict { class, status: Some(status), error, retry_after }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
            Duration::try_from(date - now).unwrap_or_default()
        }
    };
    Some(wait.min(MOST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn judged(status: u16, retry_after: Option<&str>) -> (Class, Option<Duration>) {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
        }
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
        let verdict = judge(&Ok(answer), true, NOW);
        assert_eq!(verdict.error.is_none(), verdict.class.is_success());
        (verdict.class, verdict.retry_after)
    }

    #[test]
    fn a_status_means_what_the_contract_says() {
        for (status, class) in [
            (200, Class::Delivered),
            (204, Class::Delivered),
            (202, Class::Accepted),
            (301, Class::Redirected),
            (307, Class::Redirected),
            (400, Class::ClientError),
            (404, Class::ClientError),
            (410, Class::Gone),
            (429, Class::ClientError),
            (500, Class::ServerError),
            (503, Class::ServerError),
        ] {
            assert_eq!(judged(status, None), (class, None), "{status}");
        }
        let answer = Answer { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: Bytes::new() };
        assert_eq!(judge(&Ok(answer), false, NOW).class, Class::Delivered, "nobody will acknowledge");
    }

    #[test]
    fn a_receiver_says_when_to_come_again_at_most_a_day() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(judged(429, Some("7")), (Class::Postponed, seconds(7)));
        assert_eq!(judged(503, Some("999999")), (Class::Postponed, seconds(86_400)));
        assert_eq!(judged(503, Some("Sat, 21 Nov 2026 12:01:00 GMT")), (Class::Postponed, seconds(60)));
        assert_eq!(judged(503, Some("Sat, 21 Nov 2015 12:01:00 GMT")), (Class::Postponed, seconds(0)));
        assert_eq!(judged(503, Some("soon")), (Class::ServerError, None));
        assert_eq!(judged(500, Some("7")), (Class::ServerError, None), "of 429 and 503 alone");
    }

    #[test]
    fn a_class_is_read_as_it_is_written() {
        assert!(Class::ALL.into_iter().all(|class| Class::parse(class.as_str()) == Some(class)));
    }
}
