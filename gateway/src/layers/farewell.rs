//! Ends streams of server-sent events when the gateway drains: at once and in order, so that their clients connect again,
//! elsewhere, and go on after the last event they have. What else is open finishes by itself, or ends with the drain.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use upstream::{Body, BoxError};

use super::{Request, Response};

/// Cancelled when the drain begins. Each core has its own handle: requests count references to it.
#[derive(Clone)]
pub struct Layer(pub Arc<CancellationToken>);

#[derive(Clone)]
pub struct Farewell<S> {
    inner: S,
    draining: Arc<CancellationToken>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Farewell<S>;
    fn layer(&self, inner: S) -> Farewell<S> {
        Farewell { inner, draining: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for Farewell<S>
where
    S: tower::Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Parting<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Parting { inner: self.inner.call(request), draining: Arc::clone(&self.draining) }
    }
}

pin_project! {
    pub struct Parting<F> {
        #[pin]
        inner: F,
        draining: Arc<CancellationToken>,
    }
}

impl<F, E> Future for Parting<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context))?;
        if !is_events(&response) {
            return Poll::Ready(Ok(response));
        }
        let drain = (**this.draining).clone().cancelled_owned();
        Poll::Ready(Ok(response.map(|body| Body::new(UntilDrain { body, drain, ended: false }))))
    }
}

/// Whether an answer is a stream of server-sent events.
pub fn is_events(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        let name = kind.split(|byte| *byte == b';').next().unwrap_or(kind);
        name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

pin_project! {
    struct UntilDrain {
        body: Body,
        #[pin]
        drain: WaitForCancellationFutureOwned,
        ended: bool,
    }
}

impl http_body::Body for UntilDrain {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if this.drain.poll(context).is_ready() {
            *this.ended = true;
            // Half an event is no event: clients leave it out.
            *this.body = Body::empty();
            return Poll::Ready(None);
        }
        Pin::new(this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tower::{Layer as _, ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn events_end_with_the_drain_and_nothing_else_does() {
        let draining = CancellationToken::new();
        let answer = async |kind: &'static str| {
            let service = Layer(Arc::new(draining.clone())).layer(service_fn(async |_: Request| {
                let frames = futures_util::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from("x"))));
                let mut response = Response::new(Body::new(StreamBody::new(frames)));
                response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
                Ok::<_, std::convert::Infallible>(response)
            }));
            service.oneshot(Request::new(Body::empty())).await.unwrap().into_body()
        };
        let mut events = answer("Text/Event-Stream; charset=utf-8").await;
        let mut other = answer("text/plain").await;
        assert!(events.frame().await.is_some());
        draining.cancel();
        assert!(events.frame().await.is_none(), "in order, not in an error");
        assert!(events.frame().await.is_none());
        assert!(other.frame().await.is_some());
    }
}
