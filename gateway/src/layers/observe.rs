//! Tells how each request went: metrics always, analytics and an access log line if configured, a span if the request is
//! sampled. What is known when the answer begins is counted then, how much passed when its body has ended: `outcome` lives
//! until then, and costs no allocation that the request had not needed anyway.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Version;
use http_body::Body as _;
use pin_project_lite::pin_project;
use tracing::{Span, field};
use upstream::Way;

use super::{Request, Response, farewell};
use crate::{
    access_log::AccessLog,
    analytics,
    context::RequestContext,
    error::ErrorKind,
    metrics::{self, RouteMetrics},
    outcome::{Observed, Outcome},
    problem,
};

/// What is counted where no route was found.
pub const UNMATCHED: &str = "none";

#[derive(Clone)]
pub struct Layer {
    pub access_log: Option<AccessLog>,
    /// This core's share of the analytics.
    pub analytics: Option<Arc<analytics::Core>>,
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
        let outcome = request.extensions().get::<RequestContext>().map(|context| {
            context.outcome.observe(Observed {
                arrived: context.arrived,
                method: request.method().clone(),
                client: context.client.ip(),
                unmatched: Arc::clone(&self.config.unmatched),
                analytics: self.config.analytics.clone(),
                entry: self.config.access_log.as_ref().map(|log| Box::new(log.entry(&request, context))),
            });
            Arc::clone(&context.outcome)
        });
        if let Some(outcome) = &outcome
            && !request.body().is_end_stream()
        {
            let watch = Arc::clone(outcome);
            request = request.map(|body| body.watched(Way::Request, watch));
        }
        let observation = Observation(outcome);
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
        Poll::Ready(result.map(|response| {
            if let Some(span) = this.span {
                let status = response.status();
                if let Some(route) = this.observation.0.as_ref().and_then(|outcome| outcome.route.get()) {
                    span.record("turnpike.route", &*route.id);
                }
                span.record("http.response.status_code", status.as_u16());
                if status.is_server_error() {
                    span.record("otel.status_code", "ERROR");
                    span.record("error.type", status.as_str());
                }
            }
            this.observation.answer(response)
        }))
    }
}

/// One request under way. Dropped without an answer, it counts as closed by the client.
struct Observation(Option<Arc<Outcome>>);

impl Observation {
    /// The answer begins; the rest is told by its body.
    fn answer(&mut self, response: Response) -> Response {
        let Some(outcome) = self.0.take() else { return response };
        outcome.began(response.status().as_u16());
        if farewell::is_events(&response) {
            outcome.streams("sse");
        }
        response.map(|body| body.watched(Way::Response, outcome))
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            outcome.abandoned(problem::status(ErrorKind::ClientClosed).http.as_u16());
        }
    }
}

/// The span of a sampled request (OpenTelemetry's conventions for HTTP servers; the route layer adds the route and the
/// name); its place in the trace becomes what the upstream is told. Any other request is only a step further in the
/// caller's trace.
fn span(request: &mut Request) -> Option<Span> {
    let context = RequestContext::of_mut(request).ok()?;
    let begins = context.begins_trace;
    let sampled = if begins { telemetry::sample() } else { context.trace.sampled };
    if !sampled {
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
        url.path = &*telemetry::path(request.uri().path()),
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

#[cfg(test)]
mod tests {
    use telemetry::TraceContext;
    use upstream::Body;

    use super::*;

    #[test]
    fn what_a_path_lets_its_holder_do_is_not_told() {
        let mut trace = TraceContext::unsampled();
        trace.sampled = true;
        let mut context = RequestContext::new(Arc::from("r1"), trace, "10.0.0.1:1".parse().unwrap());
        context.begins_trace = false;
        let mut request = http::Request::post("/webhooks/ack/AZKq3vUfcA").body(Body::empty()).unwrap();
        request.extensions_mut().insert(context);
        let told = testkit::told();
        assert!(span(&mut request).is_some(), "it is sampled");
        let text = told.text();
        assert!(text.contains("url.path=/webhooks/ack/***\n") && !text.contains("AZKq"), "{text}");
    }
}
