//! Turns every error into its answer, in what the caller speaks. Nothing further out ever sees an error.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use time::OffsetDateTime;

use super::{Request, Response};
use crate::{
    error::{Error, ErrorKind},
    problem::{self, Occurrence},
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

#[derive(Clone)]
pub struct Rescue<S> {
    inner: S,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Rescue<S>;
    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue { inner }
    }
}

impl<S> tower::Service<Request> for Rescue<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Rescuing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Readiness is a formality here (see `layers`); an error would come again from `call`.
        self.inner.poll_ready(context).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let occurrence = Occurrence::of(&request);
        Rescuing { inner: self.inner.call(request), occurrence }
    }
}

pin_project! {
    pub struct Rescuing<F> {
        #[pin]
        inner: F,
        occurrence: Occurrence,
    }
}

impl<F> Future for Rescuing<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match ready!(this.inner.poll(context)) {
            Ok(response) => response,
            Err(error) => {
                log(&error, this.occurrence);
                problem::respond(&error, this.occurrence)
            }
        }))
    }
}

/// What is the client's fault is counted, not logged; what is ours is an error, what is an upstream's a warning. At most so
/// many a second: an outage must not turn into one of the log.
fn log(error: &Error, occurrence: &Occurrence) {
    static LINES: Lines = Lines(AtomicU64::new(0));
    let status = problem::status(error.kind).http;
    if !status.is_server_error() || !LINES.may_write(OffsetDateTime::now_utc().unix_timestamp()) {
        return;
    }
    let cause = error.cause.as_deref().unwrap_or_default();
    let (request, trace) = (&*occurrence.request_id, occurrence.trace_id());
    if error.kind == ErrorKind::Internal {
        tracing::error!(request.id = request, trace.id = trace, cause, "{}", error.detail);
    } else {
        tracing::warn!(request.id = request, trace.id = trace, cause, "{}", error.detail);
    }
}

/// Counts the lines of the current second: the second above, the count in the lowest byte.
struct Lines(AtomicU64);

impl Lines {
    const PER_SECOND: u64 = 20;

    fn may_write(&self, second: i64) -> bool {
        let second = second.unsigned_abs() << 8;
        let before = self.0.load(Relaxed);
        let next = if before & !0xff == second { before + 1 } else { second + 1 };
        // A line more or less where cores meet doesn't matter.
        let allowed = next & 0xff <= Self::PER_SECOND;
        if allowed {
            self.0.store(next, Relaxed);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::{Layer as _, ServiceExt as _, service_fn};
    use upstream::Body;

    use super::*;
    use crate::layers::{panic_guard, request_id};

    #[test]
    fn an_outage_writes_only_so_many_lines_a_second() {
        let lines = Lines(AtomicU64::new(0));
        let written = |second| (0..100).filter(|_| lines.may_write(second)).count();
        assert_eq!((written(7), written(7), written(8)), (20, 0, 20));
    }

    #[tokio::test]
    async fn a_panic_in_an_action_is_a_problem_document() {
        let action = service_fn(|_: Request| -> std::future::Ready<Result<Response, Error>> { panic!("secret") });
        let service = request_id::Layer::default().layer(Layer.layer(panic_guard::Layer.layer(action)));
        let request = http::Request::builder().uri("/things/42?token=secret").body(Body::empty()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        let id = response.headers()["x-request-id"].clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["request_id"], id.to_str().unwrap());
        assert_eq!(problem["instance"], "/things/42");
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "what went wrong inside is for the log");
    }
}
