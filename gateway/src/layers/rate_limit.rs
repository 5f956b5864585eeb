//! Refuses what goes beyond a rate limit, and tells every client how much is left.
//!
//! It stands twice in the pipeline: before all else with the limits keyed by client address that hold everywhere, and after
//! authorisation with those of the route, which may ask for the principal. Only limits that gateways count together wait.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;

use super::{Checked, Request, Response, observe::UNMATCHED, refuse};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    limit::{Policies, Together, Verdict},
    metrics::METRICS,
};

/// Which limits are asked.
#[derive(Clone)]
pub enum Layer {
    Given(Policies),
    /// Those of the matched route.
    OfRoute,
}

#[derive(Clone)]
pub struct RateLimit<S> {
    inner: S,
    source: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = RateLimit<S>;
    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { inner, source: self.clone() }
    }
}

impl<S> tower::Service<Request> for RateLimit<S>
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Limiting<S, S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.source.check(&request) {
            Ok(Step::Known(fields)) => Checked::Right(Limiting::Passed { inner: self.inner.call(request), fields }),
            Ok(Step::Ask(together)) => {
                let asking = Box::pin(ask(together, request));
                Checked::Right(Limiting::Asking { asking, service: self.inner.clone() })
            }
            Err(error) => refuse(error),
        }
    }
}

enum Step {
    Known(Fields),
    /// Other gateways count too.
    Ask(Together),
}

/// Boxed: most requests have none, and their futures are moved about.
type Fields = Option<Box<[(HeaderName, HeaderValue); 2]>>;

impl Layer {
    fn check(&self, request: &Request) -> Result<Step, Error> {
        let context = RequestContext::of(request)?;
        let policies = match self {
            Self::Given(policies) => policies,
            Self::OfRoute => &context.route()?.policy.rate_limits,
        };
        if policies.is_empty() {
            return Ok(Step::Known(None));
        }
        let now = Instant::now();
        if let Some(together) = policies.together(request.headers(), context, now) {
            return Ok(Step::Ask(together));
        }
        judge(policies.check(request.headers(), context, now), context).map(Step::Known)
    }
}

async fn ask(together: Together, request: Request) -> Result<(Request, Fields), Error> {
    let context = RequestContext::of(&request)?;
    let verdict = together.verdict(request.headers(), context).await;
    let fields = judge(verdict, context)?;
    Ok((request, fields))
}

fn judge(verdict: Verdict, context: &RequestContext) -> Result<Fields, Error> {
    let route = context.route.as_ref().map_or(UNMATCHED, |route| &route.id);
    for limiter in verdict.shadowed.iter().chain(&verdict.refused) {
        METRICS.rate_limited(route, &limiter.name);
    }
    if verdict.refused.is_some() { Err(refusal(verdict)) } else { Ok(verdict.fields().map(Box::new)) }
}

fn refusal(verdict: Verdict) -> Error {
    let (name, value) = verdict.retry_after();
    let mut error = Error::new(ErrorKind::RateLimited, "the rate limit is reached: wait as long as Retry-After says")
        .header(name, value);
    error.headers.extend(verdict.fields().into_iter().flatten());
    error
}

pin_project! {
    #[project = Projected]
    pub enum Limiting<S, F> {
        Passed {
            #[pin]
            inner: F,
            fields: Fields,
        },
        Asking {
            asking: BoxFuture<'static, Result<(Request, Fields), Error>>,
            service: S,
        },
    }
}

impl<S> Future for Limiting<S, S::Future>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let (inner, fields) = match self.as_mut().project() {
                Projected::Passed { inner, fields } => {
                    let mut result = ready!(inner.poll(context));
                    if let Some(fields) = fields.take() {
                        tell(&mut result, *fields);
                    }
                    return Poll::Ready(result);
                }
                Projected::Asking { asking, service } => {
                    let (request, fields) = ready!(asking.as_mut().poll(context))?;
                    (service.call(request), fields)
                }
            };
            self.set(Self::Passed { inner, fields });
        }
    }
}

fn tell(result: &mut Result<Response, Error>, fields: [(HeaderName, HeaderValue); 2]) {
    match result {
        // Appended: the other of the two layers may have its own items of the list.
        Ok(response) => fields.into_iter().for_each(|(name, value)| _ = response.headers_mut().append(name, value)),
        Err(error) => error.headers.extend(fields),
    }
}
