//! When a request may be sent again: after what ([`Retry`], [`judge`]), how often in all ([`Budget`]), after how long
//! ([`backoff`], unless the service says so itself), and with what ([`repeat`]).
//!
//! A request that never reached the service is sent again whatever its method; one that may have been read only if it is
//! idempotent. Once the head of an answer has been handed on, nothing is tried again.

use std::{
    borrow::Cow,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header::RETRY_AFTER};
use parking_lot::Mutex;
use rand::Rng;

use crate::{
    Body, ConfigError, Protocol,
    error::{Cause, Failure},
    grpc,
};

/// Retries a request earns for others.
const SHARE: f64 = 0.2;
/// Retries that are there even if nothing was earned.
const FLOOR: f64 = 3.0;
/// The time in which what was earned falls to 1/e.
const MEMORY: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// The longest that is waited because the service says so, where there is no deadline.
const PATIENCE: Duration = Duration::from_secs(10);
/// gRPC's proposal A6: when the service wants to be asked again, in milliseconds; a negative number is never.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What is tried again, how often, and how long a try may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Tries beside the first, 0 to 3; default 1.
    pub attempts: u32,
    /// What is tried again; default [`On::Connect`], [`On::Reset`], [`On::Unavailable`].
    pub on: Vec<On>,
    /// How long a try of an idempotent request may take until its answer begins, where another may follow it; the last one
    /// has all that is left of the deadline. None, the default: as long as the deadline.
    pub per_try_timeout: Option<Duration>,
}

/// After what a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// It never reached the service: no connection, one that was closed before, a stream that was refused. Any method.
    Connect,
    /// The connection broke after the service may have read the request. Idempotent requests only.
    Reset,
    /// The service answered UNAVAILABLE and no message (gRPC). Idempotent requests only.
    Unavailable,
    /// The service answered with this status: 429, 502, 503 or 504 (HTTP). Idempotent requests only.
    Status(u16),
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, on: vec![On::Connect, On::Reset, On::Unavailable], per_try_timeout: None }
    }
}

impl Retry {
    pub(crate) fn validate(&self, protocol: Protocol) -> Result<(), ConfigError> {
        let refuse = |path: String, message: &str| Err(ConfigError { path, message: message.to_owned() });
        if self.attempts > 3 {
            return refuse("retry.attempts".to_owned(), "must be within 0 to 3");
        }
        if self.per_try_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return refuse("retry.per_try_timeout".to_owned(), "must be above 0");
        }
        for (index, on) in self.on.iter().enumerate() {
            let wrong = match on {
                On::Status(_) if protocol == Protocol::Grpc => "gRPC has no HTTP statuses: `unavailable`",
                On::Status(status) if !is_transient(*status) => "must be 429, 502, 503 or 504",
                _ if self.on[..index].contains(on) => "stands twice",
                _ => continue,
            };
            return refuse(format!("retry.on[{index}]"), wrong);
        }
        Ok(())
    }

    /// Whether what went wrong is tried again at all.
    pub(crate) fn is_on(&self, cause: Cause) -> bool {
        match cause {
            Cause::Connect | Cause::Closed | Cause::Refused => self.on.contains(&On::Connect),
            Cause::Broken => self.on.contains(&On::Reset),
            Cause::Unavailable => self.on.contains(&On::Unavailable),
            // It is asked for by its own settings.
            Cause::Slow | Cause::Status(_) => true,
            Cause::Unknown | Cause::RequestBody | Cause::Limit(_) => false,
        }
    }
}

/// A status that may be another one a moment later.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Backoff,
    /// The service says when.
    Told(Duration),
    /// The service says that it wants no other try.
    Never,
}

/// What is wrong with an answer, if anything is that may be tried again, and what the service says of when.
pub(crate) fn judge(
    config: &Retry,
    protocol: Protocol,
    answer: &Result<Response<Body>, Failure>,
) -> Option<(Cause, Pause)> {
    let response = match answer {
        Err(failure) => return Some((failure.cause, Pause::Backoff)),
        Ok(response) => response,
    };
    if protocol == Protocol::Grpc {
        // UNAVAILABLE and nothing else (trailers only): no message has been seen by anyone.
        let is_unavailable = response.headers().get(grpc::STATUS).is_some_and(|status| status == "14");
        return is_unavailable.then(|| (Cause::Unavailable, pushback(response.headers())));
    }
    let status = response.status();
    if !is_transient(status.as_u16()) || !config.on.contains(&On::Status(status.as_u16())) {
        return None;
    }
    Some((Cause::Status(status), retry_after(status, response.headers(), SystemTime::now())))
}

fn pushback(headers: &HeaderMap) -> Pause {
    match headers.get(PUSHBACK) {
        None => Pause::Backoff,
        // What can't be read is as a negative number.
        Some(told) => {
            let millis = told.to_str().ok().and_then(|told| told.parse().ok());
            millis.map_or(Pause::Never, |millis| Pause::Told(Duration::from_millis(millis)))
        }
    }
}

/// RFC 9110, 10.2.3: seconds or a date. A 429 that doesn't say when is an answer like others: who sent too much is not
/// helped by sending more.
fn retry_after(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Pause {
    let told = headers.get(RETRY_AFTER).and_then(|told| told.to_str().ok());
    let told = told.and_then(|told| match told.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(told.trim()).ok()?.duration_since(now).unwrap_or_default()),
    });
    match told {
        Some(pause) => Pause::Told(pause),
        None if status == StatusCode::TOO_MANY_REQUESTS => Pause::Never,
        None => Pause::Backoff,
    }
}

/// Whether there is still time for a try after the pause.
pub(crate) fn is_in_time(pause: Duration, deadline: Option<Instant>, now: Instant) -> bool {
    match deadline {
        None => pause <= PATIENCE,
        Some(deadline) => now.checked_add(pause).is_some_and(|then| then < deadline),
    }
}

/// Why a try was given up for another.
pub(crate) fn slow(limit: Duration) -> Failure {
    Failure::new(Cause::Slow, Cow::Owned(format!("no answer within {limit:?}, the time of a try")))
}

/// Lets retries and hedges be a fifth of the requests of the last ten seconds, and three, so that a service in trouble
/// isn't sent a multiple of what troubles it. Measured over time, not over what is under way now: when one of two endpoints
/// dies, half of what is under way has to be repeated at once, of which a fifth of it would cover too little; and a service
/// that has become slow has much under way, of which a fifth would be a multiple of what it is sent in a second.
pub(crate) struct Budget(Mutex<State>);

struct State {
    tokens: f64,
    at: Instant,
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { tokens: FLOOR, at: now }))
    }

    /// A request was sent.
    pub fn deposit(&self, now: Instant) {
        let mut state = self.0.lock();
        state.settle(now);
        state.tokens += SHARE;
    }

    /// Whether a retry may be sent.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        state.settle(now);
        let is_covered = state.tokens >= 1.0;
        if is_covered {
            state.tokens -= 1.0;
        }
        is_covered
    }
}

impl State {
    fn settle(&mut self, now: Instant) {
        let weight = (-now.saturating_duration_since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.tokens = FLOOR + (self.tokens - FLOOR) * weight;
        self.at = now;
    }
}

/// How long to wait before retry number `retry` (from 1): anything up to 25 ms, doubled each time, never above 250 ms.
pub(crate) fn backoff(retry: u32, random: &mut impl Rng) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << (retry - 1).min(8)).min(LONGEST_WAIT);
    longest.mul_f64(random.random())
}

/// The same request once more, where its body can be had again. Extensions stay with the first.
pub(crate) fn repeat(request: &Request<Body>) -> Option<Request<Body>> {
    let mut repeated = Request::new(request.body().repeat()?);
    request.method().clone_into(repeated.method_mut());
    request.uri().clone_into(repeated.uri_mut());
    request.headers().clone_into(repeated.headers_mut());
    Some(repeated)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    fn withdrawn(budget: &Budget, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn three_retries_are_always_there() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(withdrawn(&budget, start), 3);
        assert_eq!(withdrawn(&budget, start + MEMORY * 8), 2, "they come back, but for a rest that never quite fades");
    }

    #[test]
    fn a_fifth_of_recent_requests_may_be_repeated() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..100 {
            budget.deposit(start);
        }
        assert_eq!(withdrawn(&budget, start), 22);
    }

    #[test]
    fn what_was_earned_long_ago_is_forgotten() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..1000 {
            budget.deposit(start);
        }
        assert_eq!(withdrawn(&budget, start + MEMORY * 10), 3);
    }

    fn judged(on: On, status: u16, headers: &[(&'static str, &str)]) -> Option<(Cause, Pause)> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let retry = Retry { on: vec![on], ..Retry::default() };
        let protocol = if on == On::Unavailable { Protocol::Grpc } else { Protocol::Http1 };
        judge(&retry, protocol, &Ok(response.body(Body::empty()).unwrap()))
    }

    #[test]
    fn a_service_may_say_when_it_wants_to_be_asked_again() {
        let pause = |told: &str| judged(On::Status(503), 503, &[("retry-after", told)]).unwrap().1;
        assert_eq!(pause("2"), Pause::Told(Duration::from_secs(2)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Pause::Told(Duration::ZERO), "that is over");
        assert!(matches!(pause("Thu, 01 Jan 2099 00:00:00 GMT"), Pause::Told(pause) if pause > PATIENCE));
        assert_eq!(pause("soon"), Pause::Backoff);
        assert_eq!(judged(On::Status(429), 429, &[]).unwrap().1, Pause::Never, "it was too much already");
        assert_eq!(judged(On::Status(503), 502, &[]), None, "not asked for");
        assert_eq!(judged(On::Reset, 503, &[]), None);
    }

    #[test]
    fn a_grpc_service_may_push_back() {
        let pause = |told: &str| {
            let headers = [("grpc-status", "14"), ("grpc-retry-pushback-ms", told)];
            judged(On::Unavailable, 200, &headers).unwrap().1
        };
        assert_eq!(pause("150"), Pause::Told(Duration::from_millis(150)));
        assert_eq!(pause("0"), Pause::Told(Duration::ZERO));
        assert_eq!(pause("-1"), Pause::Never);
        assert_eq!(pause("later"), Pause::Never);
        assert_eq!(judged(On::Unavailable, 200, &[("grpc-status", "14")]).unwrap().1, Pause::Backoff);
        assert_eq!(judged(On::Unavailable, 200, &[("grpc-status", "5")]), None);
    }

    #[test]
    fn nobody_waits_longer_than_there_is_time() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert!(is_in_time(second, Some(now + 2 * second), now));
        assert!(!is_in_time(second, Some(now + second), now));
        assert!(is_in_time(PATIENCE, None, now) && !is_in_time(PATIENCE + second, None, now));
        assert!(!is_in_time(Duration::MAX, Some(now + second), now));
    }

    #[test]
    fn each_fault_names_its_place() {
        let path_of = |retry: Retry, protocol| retry.validate(protocol).err().map(|error| error.path);
        let on = |on: &[On]| Retry { on: on.to_vec(), ..Retry::default() };
        assert_eq!(path_of(Retry::default(), Protocol::Grpc), None);
        assert_eq!(path_of(on(&[On::Connect, On::Status(503)]), Protocol::Http2), None);
        assert_eq!(path_of(on(&[On::Connect, On::Status(503)]), Protocol::Grpc).as_deref(), Some("retry.on[1]"));
        assert_eq!(path_of(on(&[On::Status(500)]), Protocol::Http1).as_deref(), Some("retry.on[0]"));
        assert_eq!(path_of(on(&[On::Reset, On::Reset]), Protocol::Http1).as_deref(), Some("retry.on[1]"));
        let attempts = Retry { attempts: 4, ..Retry::default() };
        assert_eq!(path_of(attempts, Protocol::Http1).as_deref(), Some("retry.attempts"));
        let timeout = Retry { per_try_timeout: Some(Duration::ZERO), ..Retry::default() };
        assert_eq!(path_of(timeout, Protocol::Http1).as_deref(), Some("retry.per_try_timeout"));
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_a_second() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut longest = |retry| (0..500).map(|_| backoff(retry, &mut random)).max().unwrap();
        assert!((20..=25).contains(&longest(1).as_millis()));
        assert!((40..=50).contains(&longest(2).as_millis()));
        assert!((80..=100).contains(&longest(3).as_millis()));
        assert!((200..=250).contains(&longest(40).as_millis()));
    }

    #[test]
    fn only_a_body_in_memory_is_repeated() {
        let small = Request::new(Body::from("hello"));
        assert!(repeat(&small).is_some());
        let large = Request::new(Body::from("x".repeat(64 * 1024 + 1)));
        assert!(repeat(&large).is_none());
        let stream = Request::new(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"x"))));
        assert!(repeat(&stream).is_none());
    }
}
