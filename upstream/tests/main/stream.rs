//! Bodies pass as they come: whoever doesn't read holds up whoever writes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use upstream::{Body, BoxError, ErrorKind, Protocol};

use crate::service::{SAFE, Service, UNSAFE, client, get, post, until};

const CHUNK: usize = 64 * 1024;
const LARGE: usize = 64 * 1024 * 1024;
/// What may be between a writer and a reader who doesn't read: windows, hyper's buffers and both sockets'.
const BETWEEN: usize = 16 * 1024 * 1024;

/// A body of zeros that counts what was taken of it.
struct Zeros {
    left: usize,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        this.left -= CHUNK;
        this.taken.fetch_add(CHUNK, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; CHUNK])))))
    }
}

fn zeros(taken: &Arc<AtomicUsize>) -> Body {
    Body::new(Zeros { left: LARGE, taken: Arc::clone(taken) })
}

pub fn endless() -> Body {
    Body::new(Zeros { left: usize::MAX / CHUNK * CHUNK, taken: Arc::default() })
}

/// A body's data, without its trailers; then it waits.
pub fn then(first: Body, wait: impl Future<Output = ()> + Send + 'static) -> Body {
    Body::new(Then { first, wait: Box::pin(wait) })
}

struct Then {
    first: Body,
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl http_body::Body for Then {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.first).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
            _ => self.wait.as_mut().poll(context).map(|()| None),
        }
    }
}

async fn count(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    Response::new(Body::from(bytes.to_string()))
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let (http1, http2) = (Service::http1(count).await, Service::http2(count).await);
    for (protocol, service) in [(Protocol::Http1, &http1), (Protocol::Http2, &http2)] {
        let client = client(protocol, &[service.address]);
        let taken = Arc::default();
        let response = client.send(post("/", zeros(&taken)), UNSAFE).await.unwrap();
        assert_eq!(crate::service::text(response).await, LARGE.to_string());
    }
}

#[tokio::test]
async fn an_upload_nobody_reads_is_not_read_ahead() {
    let ignore = |request: Request<Incoming>| async move {
        std::future::pending::<()>().await;
        drop(request);
        Response::new(Body::empty())
    };
    let (http1, http2) = (Service::http1(ignore).await, Service::http2(ignore).await);
    for (protocol, service) in [(Protocol::Http1, &http1), (Protocol::Http2, &http2)] {
        let taken = Arc::default();
        let client = client(protocol, &[service.address]);
        let sending = client.send(post("/", zeros(&taken)), UNSAFE);
        assert!(tokio::time::timeout(Duration::from_millis(500), sending).await.is_err());
        let taken = taken.load(SeqCst);
        assert!((CHUNK..BETWEEN).contains(&taken), "{protocol:?} took {taken}");
    }
}

#[tokio::test]
async fn a_download_nobody_reads_is_not_read_ahead() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let answer = move |_: Request<Incoming>| {
            let body = zeros(&counted);
            async { Response::new(body) }
        };
        let service = match protocol {
            Protocol::Http1 => Service::http1(answer).await,
            _ => Service::http2(answer).await,
        };
        let mut response = client(protocol, &[service.address]).send(get("/"), SAFE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ahead = taken.load(SeqCst);
        assert!((CHUNK..BETWEEN).contains(&ahead), "{protocol:?} took {ahead}");
        let mut bytes = 0;
        while let Some(frame) = response.body_mut().frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(bytes, LARGE);
        assert!(response.body().is_end_stream());
    }
}

#[tokio::test]
async fn an_answer_may_begin_before_the_request_ends() {
    let echo = |request: Request<Incoming>| async move { Response::new(Body::from(request.into_body())) };
    let service = Service::http2(echo).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let client = client(Protocol::Http2, &[service.address]);
    let mut response = client.send(post("/", Body::new(body)), UNSAFE).await.unwrap();
    for word in ["one", "two", "three"] {
        sender.send(Ok(Frame::data(Bytes::from(word)))).await.unwrap();
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(sender);
    assert!(response.body_mut().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn a_response_given_up_ends_its_upload() {
    let echo = |request: Request<Incoming>| async move { Response::new(Body::from(request.into_body())) };
    let service = Service::http2(echo).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let client = client(Protocol::Http2, &[service.address]);
    drop(client.send(post("/", Body::new(body)), UNSAFE).await.unwrap());
    until("the upload is dropped", || sender.is_closed()).await;
}

#[tokio::test]
async fn a_request_body_that_cant_be_read_is_the_senders_fault() {
    let (http1, http2) = (Service::http1(count_what_comes).await, Service::http2(count_what_comes).await);
    for (protocol, service) in [(Protocol::Http1, &http1), (Protocol::Http2, &http2)] {
        let frames: [Result<Frame<Bytes>, BoxError>; 2] =
            [Ok(Frame::data(Bytes::from_static(b"half"))), Err("the client went away".into())];
        let body = Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let error = client(protocol, &[service.address]).send(post("/", body), SAFE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RequestBody, "{protocol:?}: {error}");
        assert!(error.detail.contains("the client went away"), "{error}");
    }
}

async fn count_what_comes(request: Request<Incoming>) -> Response<Body> {
    let _ = request.into_body().collect().await;
    Response::new(Body::empty())
}
