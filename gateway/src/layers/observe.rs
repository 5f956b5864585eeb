//! Tells how each request went: metrics always, an access log line if configured, a span if the request is sampled. A
//! request that is not sampled costs two reads of the clock and two additions.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{Method, StatusCode, Uri, Version};
use pin_project_lite::pin_project;
use tracing::{Span, field};

use super::{Request, Response};
use crate::{
    access_log::{AccessLog, Line},
    context::{Outcome, RequestContext},
    error::ErrorKind,
    metrics::{self, METRICS, RouteMetrics},
    problem,
};

/// What is counted where no route was found.
pub const UNMATCHED: &str = "none";

#[derive(Clone)]
pub struct Layer {
    pub access_log: Option<AccessLog>,
    /// The metrics of requests that found no route.
    pub unmatched: Arc<RouteMetrics>,
}

#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    config: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Observe<S>;
    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, config: self.clone() }
    }
}

impl<S> tower::Service<Request> for Observe<S>
where
    S: tower::Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let span = span(&mut request);
        let method = request.method().clone();
        let context = request.extensions().get::<RequestContext>();
        let (started, outcome) = match context {
            Some(context) => (context.arrived, Arc::clone(&context.outcome)),
            None => (Instant::now(), Arc::default()),
        };
        let line = self.config.access_log.as_ref().map(|log| Box::new((log.clone(), Logged::of(&request))));
        METRICS.in_flight.add(1);
        let observation = Observation {
            started,
            method,
            outcome,
            unmatched: Arc::clone(&self.config.unmatched),
            line,
            answered: false,
        };
        let entered = span.as_ref().map(Span::enter);
        let inner = self.inner.call(request);
        drop(entered);
        Observing { inner, span, observation }
    }
}

pin_project! {
    pub struct Observing<F> {
        #[pin]
        inner: F,
        span: Option<Span>,
        observation: Observation,
    }
}

impl<F, E> Future for Observing<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.span.as_ref().map(Span::enter);
        let result = ready!(this.inner.poll(context));
        drop(entered);
        if let Ok(response) = &result {
            this.observation.record(response.status());
            if let Some(span) = this.span {
                let status = response.status();
                if let Some(route) = this.observation.outcome.route.get() {
                    span.record("turnpike.route", &*route.id);
                }
                span.record("http.response.status_code", status.as_u16());
                if status.is_server_error() {
                    span.record("otel.status_code", "ERROR");
                    span.record("error.type", status.as_str());
                }
            }
        }
        Poll::Ready(result)
    }
}

/// One request under way. Dropped without an answer, it counts as closed by the client.
struct Observation {
    started: Instant,
    method: Method,
    outcome: Arc<Outcome>,
    unmatched: Arc<RouteMetrics>,
    line: Option<Box<(AccessLog, Logged)>>,
    answered: bool,
}

/// What the access log needs of a request that is gone when the line is written.
struct Logged {
    uri: Uri,
    context: Option<RequestContext>,
}

impl Logged {
    fn of(request: &Request) -> Self {
        Self { uri: request.uri().clone(), context: request.extensions().get().cloned() }
    }
}

impl Observation {
    fn record(&mut self, status: StatusCode) {
        self.answered = true;
        let elapsed = self.started.elapsed();
        let route = self.outcome.route.get();
        route.map_or(&*self.unmatched, |route| &route.metrics).record(&self.method, status, elapsed.as_secs_f64());
        if let Some((log, Logged { uri, context: Some(context) })) = self.line.take().map(|line| *line) {
            log.write(&Line {
                method: self.method.as_str(),
                path: uri.path(),
                status: status.as_u16(),
                elapsed,
                route: route.map_or(UNMATCHED, |route| &route.id),
                upstream: route.and_then(|route| route.upstream.as_deref()),
                principal: self.outcome.principal.get().map(|caller| caller.principal.subject.as_str()),
                context: &context,
            });
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        METRICS.in_flight.add(-1);
        if !self.answered {
            self.record(problem::status(ErrorKind::ClientClosed).http);
        }
    }
}

/// The span of a sampled request (OpenTelemetry's conventions for HTTP servers; the route layer adds the route and the
/// name); its place in the trace becomes what the upstream is told. Any other request is only a step further in the
/// caller's trace.
fn span(request: &mut Request) -> Option<Span> {
    let begins = telemetry::extract(request.headers()).is_none();
    let sampled =
        if begins { telemetry::sample() } else { RequestContext::of(request).is_ok_and(|own| own.trace.sampled) };
    if !sampled {
        let context = RequestContext::of_mut(request).ok()?;
        context.trace = context.trace.child();
        return None;
    }
    let context = RequestContext::of(request).ok()?;
    let method = metrics::known(request.method());
    let version = if request.version() == Version::HTTP_2 { "2" } else { "1.1" };
    let span = tracing::info_span!(
        "request",
        turnpike.sampled = true,
        turnpike.role = "gateway",
        otel.name = method.unwrap_or("HTTP"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method.unwrap_or("_OTHER"),
        http.request.method_original = method.is_none().then(|| request.method().as_str()),
        http.response.status_code = field::Empty,
        http.route = field::Empty,
        url.scheme = context.scheme(),
        url.path = request.uri().path(),
        client.address = %context.client.ip(),
        network.protocol.version = version,
        turnpike.request.id = &*context.request_id,
        turnpike.route = field::Empty,
        error.type = field::Empty,
    );
    if !begins {
        telemetry::set_parent(&span, &context.trace);
    }
    let own = span.in_scope(telemetry::current);
    let context = RequestContext::of_mut(request).ok()?;
    context.trace = own.unwrap_or_else(|| context.trace.child());
    Some(span)
}
