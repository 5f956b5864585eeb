//! The upstream as generated tonic clients want it: `ProductServiceClient::new(upstream.channel())`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use tokio::time::{Sleep, sleep_until};

use super::{
    status::{MESSAGE, STATUS, Status},
    timeout,
};
use crate::{Body, BoxError, Client, Options};

/// Marks a call, in the request's extensions, that may be made twice: it may then be tried again after it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Idempotent;

/// A client as a `tower::Service` of gRPC. Always ready: what is too much is refused, not parked.
///
/// Whatever goes wrong is a gRPC status. The request's `grpc-timeout` bounds the whole call, its answer included. The
/// caller's trace travels along. A request of up to 64 KiB that is there at once, as every unary one is, can be sent again.
#[derive(Clone)]
pub struct Channel {
    client: Client,
}

impl Channel {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

impl<B> tower::Service<Request<B>> for Channel
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.client.clone();
        Box::pin(async move { Ok(call(&client, request).await) })
    }
}

async fn call<B>(client: &Client, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = request.into_parts();
    if telemetry::extract(&head.headers).is_none()
        && let Some(trace) = telemetry::current()
    {
        telemetry::inject(&trace, &mut head.headers);
    }
    let deadline = timeout::earliest(None, &head.headers, Instant::now());
    let options = Options { deadline, idempotent: head.extensions.get::<Idempotent>().is_some(), ..Options::default() };
    match client.send(Request::from_parts(head, Body::new(body)), options).await {
        Ok(response) => match deadline {
            None => response,
            Some(deadline) => response.map(|body| Body::new(Until::new(body, deadline))),
        },
        Err(error) => trailers_only(&error.into()),
    }
}

/// A response that has a status and nothing else.
fn trailers_only(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = trailers(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, status.code.into());
    let message = percent_encoding::utf8_percent_encode(&status.message, percent_encoding::CONTROLS).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// An answer that ends at the deadline, with that status.
struct Until {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Until {
    fn new(body: Body, deadline: Instant) -> Self {
        Self { body, deadline: Box::pin(sleep_until(deadline.into())), is_over: false }
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(this.deadline.as_mut().poll(context));
        this.is_over = true;
        this.body = Body::empty();
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&Status::deadline())))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}
