//! Refuses what goes beyond the requests that a caller may have under way at once. A request is under way until the last byte
//! of its answer has gone out; a WebSocket is a connection from its handshake on, and counts as one elsewhere.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use upstream::{Body, BoxError};

use super::{Checked, Request, Response, refuse};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    limit::{Concurrency as Limit, Permit},
    metrics::METRICS,
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

#[derive(Clone)]
pub struct Concurrency<S> {
    inner: S,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Concurrency<S>;
    fn layer(&self, inner: S) -> Concurrency<S> {
        Concurrency { inner }
    }
}

impl<S> tower::Service<Request> for Concurrency<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<UnderWay<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match admit(&request) {
            Ok(permits) => {
                if !permits.is_empty() && may_outlive_its_client(&request) {
                    request.extensions_mut().insert(permits.clone());
                }
                Checked::Right(UnderWay { inner: self.inner.call(request), permits })
            }
            Err(error) => refuse(error),
        }
    }
}

/// One of each limit that applies. None needs no room. A request that is seen through although its client has left goes on
/// holding them.
#[derive(Clone, Default)]
pub struct Permits(Option<Arc<Vec<Permit>>>);

impl Permits {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

fn may_outlive_its_client(request: &Request) -> bool {
    let route = request.extensions().get::<RequestContext>().and_then(|context| context.route.as_ref());
    route.is_some_and(|route| route.policy.idempotency.is_some())
}

fn admit(request: &Request) -> Result<Permits, Error> {
    let context = RequestContext::of(request)?;
    let route = context.route()?;
    let limits: &Arc<[Arc<Limit>]> = &route.policy.concurrency;
    let mut permits = Vec::new();
    for limit in &**limits {
        let Some(key) = limit.config.key.of(request.headers(), context) else { continue };
        let Some(permit) = limit.admit(key.hash()) else {
            METRICS.concurrency_limited(&route.id);
            let detail = "too many requests of this caller are under way: wait until one is answered";
            return Err(
                Error::new(ErrorKind::TooManyAtOnce, detail).header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            );
        };
        permits.push(permit);
    }
    Ok(Permits((!permits.is_empty()).then(|| Arc::new(permits))))
}

pin_project! {
    pub struct UnderWay<F> {
        #[pin]
        inner: F,
        permits: Permits,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for UnderWay<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        let permits = std::mem::take(this.permits);
        if permits.is_empty() || response.body().is_end_stream() {
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(response.map(|inner| Body::new(Held { inner, permits }))))
    }
}

pin_project! {
    /// An answer on its way out.
    struct Held {
        #[pin]
        inner: Body,
        permits: Permits,
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        if frame.is_none() {
            *this.permits = Permits::default();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
