//! Refuses at once what a core can't take on top of what it is doing, or what the process has no memory for. Each core has
//! an equal share of the bound: a counter that cores shared would cost more than the exact number is worth.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{HeaderValue, header};
use pin_project_lite::pin_project;

use super::{Checked, Request, Response, refuse};
use crate::{
    error::{Error, ErrorKind},
    metrics::METRICS,
    overload::{self, Reason},
};

#[derive(Clone)]
pub struct Layer {
    /// Requests of this core that may be in flight.
    pub bound: usize,
    pub in_flight: Arc<AtomicUsize>,
    pub overload: Arc<overload::Core>,
}

#[derive(Clone)]
pub struct LoadShed<S> {
    inner: S,
    config: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = LoadShed<S>;
    fn layer(&self, inner: S) -> LoadShed<S> {
        LoadShed { inner, config: self.clone() }
    }
}

impl<S> tower::Service<Request> for LoadShed<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<InFlight<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let permit = Permit::take(&self.config.in_flight);
        let reason =
            if permit.before >= self.config.bound { Some(Reason::InFlight) } else { self.config.overload.sheds() };
        if let Some(reason) = reason {
            return refuse(refusal(reason));
        }
        Checked::Right(InFlight { inner: self.inner.call(request), _permit: permit })
    }
}

fn refusal(reason: Reason) -> Error {
    METRICS.shed(reason.name());
    // What runs out by the second is back in one; memory takes longer.
    let (detail, after) = match reason {
        Reason::InFlight => ("too many requests are in flight: try again soon", "1"),
        Reason::Memory => ("there is no memory for more requests: try again later", "5"),
        Reason::Delay => ("the gateway is behind with its work: try again soon", "2"),
    };
    Error::new(ErrorKind::Overloaded, detail).header(header::RETRY_AFTER, HeaderValue::from_static(after))
}

pin_project! {
    pub struct InFlight<F> {
        #[pin]
        inner: F,
        _permit: Permit,
    }
}

impl<F: Future> Future for InFlight<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(context)
    }
}

/// Counted while it lives.
struct Permit {
    counter: Arc<AtomicUsize>,
    /// How many there were before it.
    before: usize,
}

impl Permit {
    fn take(counter: &Arc<AtomicUsize>) -> Self {
        Self { before: counter.fetch_add(1, Relaxed), counter: Arc::clone(counter) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt as _;
    use tower::{Layer as _, Service as _, service_fn};
    use upstream::Body;

    use super::*;

    #[test]
    fn one_more_than_the_bound_is_refused_until_one_is_done() {
        let layer = Layer { bound: 2, in_flight: Arc::default(), overload: Arc::default() };
        let mut service = layer.layer(service_fn(|_: Request| pending::<Result<Response, Error>>()));
        let mut call = || service.call(Request::new(Body::empty()));
        let (first, second) = (call(), call());
        let refused = call().now_or_never().and_then(Result::err).map(|error| error.kind);
        assert_eq!(refused, Some(ErrorKind::Overloaded));
        drop(first);
        assert!(call().now_or_never().is_none(), "there is room again");
        drop(second);
        assert_eq!(layer.in_flight.load(Relaxed), 0);
    }
}
