//! Refuses what goes beyond a rate limit, and tells every client how much is left.
//!
//! It stands twice in the pipeline: before all else with the limits keyed by client address that hold everywhere, and after
//! authorisation with those of the route, which may ask for the principal.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;

use super::{Checked, Request, Response, observe::UNMATCHED, refuse};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    limit::{Policies, Verdict},
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
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Telling<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.source.check(&request) {
            Ok(fields) => Checked::Right(Telling { inner: self.inner.call(request), fields }),
            Err(error) => refuse(error),
        }
    }
}

/// Boxed: most requests have none, and their futures are moved about.
type Fields = Option<Box<[(HeaderName, HeaderValue); 2]>>;

impl Layer {
    fn check(&self, request: &Request) -> Result<Fields, Error> {
        let context = RequestContext::of(request)?;
        let policies = match self {
            Self::Given(policies) => policies,
            Self::OfRoute => &context.route()?.policy.rate_limits,
        };
        if policies.is_empty() {
            return Ok(None);
        }
        let verdict = policies.check(request.headers(), context, Instant::now());
        let route = context.route.as_ref().map_or(UNMATCHED, |route| &route.id);
        for limiter in verdict.shadowed.iter().chain(&verdict.refused) {
            METRICS.rate_limited(route, &limiter.name);
        }
        if verdict.refused.is_some() { Err(refusal(verdict)) } else { Ok(verdict.fields().map(Box::new)) }
    }
}

fn refusal(verdict: Verdict) -> Error {
    let (name, value) = verdict.retry_after();
    let mut error = Error::new(ErrorKind::RateLimited, "the rate limit is reached: wait as long as Retry-After says")
        .header(name, value);
    error.headers.extend(verdict.fields().into_iter().flatten());
    error
}

pin_project! {
    pub struct Telling<F> {
        #[pin]
        inner: F,
        fields: Fields,
    }
}

impl<F> Future for Telling<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(context));
        if let Some(fields) = this.fields.take() {
            match &mut result {
                // Appended: the other of the two layers may have its own items of the list.
                Ok(response) => {
                    fields.into_iter().for_each(|(name, value)| _ = response.headers_mut().append(name, value))
                }
                Err(error) => error.headers.extend(*fields),
            }
        }
        Poll::Ready(result)
    }
}
