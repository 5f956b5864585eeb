//! Exchanges that may be silent for long: gRPC calls and event streams. While one is open, nobody is hurried on its
//! connection; how long a stream may be silent is its route's affair.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use pin_project_lite::pin_project;
use upstream::{Body, BoxError};

use crate::layers::Response;

/// How many such exchanges a connection has open.
#[derive(Clone, Default)]
pub struct Silences(Arc<AtomicUsize>);

/// One of them.
struct Silence(Arc<AtomicUsize>);

impl Silences {
    pub fn any(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn begin(&self) -> Silence {
        self.0.fetch_add(1, Relaxed);
        Silence(Arc::clone(&self.0))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

const KINDS: [&str; 4] = ["application/grpc", "text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace"];

fn may_be_silent(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| KINDS.iter().any(|own| kind.starts_with(own.as_bytes())))
}

/// Notes the silences among a service's exchanges.
pub struct Noting<S> {
    pub inner: S,
    pub silences: Silences,
}

impl<S> Service<http::Request<Incoming>> for Noting<S>
where
    S: Service<http::Request<Incoming>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Noted<S::Future>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let silence = may_be_silent(request.headers()).then(|| self.silences.begin());
        Noted { inner: self.inner.call(request), silences: self.silences.clone(), silence }
    }
}

pin_project! {
    pub struct Noted<F> {
        #[pin]
        inner: F,
        silences: Silences,
        silence: Option<Silence>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Noted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(context));
        let silence = this.silence.take().or_else(|| may_be_silent(response.headers()).then(|| this.silences.begin()));
        Poll::Ready(Ok(match silence {
            Some(silence) if !response.body().is_end_stream() => {
                response.map(|body| Body::new(Silent { body, _silence: silence }))
            }
            _ => response,
        }))
    }
}

/// A body during which there may be silence.
struct Silent {
    body: Body,
    _silence: Silence,
}

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
