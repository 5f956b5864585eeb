//! Services to call: hyper and tonic servers in the test's own runtime that can be counted, killed and drained.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use upstream::{Body, Client, Config, Options, Protocol, Upstream};

pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// A service that answers by a function. Dropping it kills it.
pub struct Service {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    killed: CancellationToken,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http1,
    Http2 { max_streams: u32 },
}

impl Service {
    pub async fn http1<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start("127.0.0.1:0", Speaks::Http1, None, handler).await
    }

    pub async fn http2<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start("127.0.0.1:0", Speaks::Http2 { max_streams: 200 }, None, handler).await
    }

    pub async fn http2_of<F>(max_streams: u32, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start("127.0.0.1:0", Speaks::Http2 { max_streams }, None, handler).await
    }

    /// Where another was before.
    pub async fn http1_at<F>(
        address: SocketAddr,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start(&address.to_string(), Speaks::Http1, None, handler).await
    }

    /// Within TLS: HTTP/2 where it offers that, else HTTP/1.1.
    pub async fn secured<F>(tls: ServerConfig, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let is_http2 = tls.alpn_protocols.iter().any(|protocol| protocol == b"h2");
        let speaks = if is_http2 { Speaks::Http2 { max_streams: 200 } } else { Speaks::Http1 };
        Self::start("127.0.0.1:0", speaks, Some(Arc::new(tls).into()), handler).await
    }

    async fn start<F>(
        address: &str,
        speaks: Speaks,
        tls: Option<TlsAcceptor>,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let open = Arc::new(AtomicUsize::new(0));
        let now_open = Arc::clone(&open);
        let killed = CancellationToken::new();
        let (counted, served, end) = (Arc::clone(&connections), Arc::clone(&requests), killed.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = end.cancelled() => return,
                };
                counted.fetch_add(1, SeqCst);
                now_open.fetch_add(1, SeqCst);
                let now_open = Arc::clone(&now_open);
                stream.set_nodelay(true).unwrap();
                let (handler, served) = (Arc::clone(&handler), Arc::clone(&served));
                let tls = tls.clone();
                let serving = async move {
                    match tls {
                        None => serve(stream, speaks, handler, served).await,
                        // A client that doesn't trust it is what some tests are about.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, speaks, handler, served).await;
                            }
                        }
                    }
                };
                let end = end.clone();
                tokio::spawn(async move {
                    tokio::select! { () = serving => {}, () = end.cancelled() => {} }
                    now_open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { address, connections, open, requests, killed, accepting }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Closes the listener and cuts every connection, as a process's death does.
    pub async fn kill(&mut self) {
        self.killed.cancel();
        (&mut self.accepting).await.unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.killed.cancel();
    }
}

async fn serve<S>(stream: S, speaks: Speaks, handler: Handler, served: Arc<AtomicUsize>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        served.fetch_add(1, SeqCst);
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    // A client that goes away is what some tests are about.
    let _ = match speaks {
        Speaks::Http1 => {
            conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
        }
        Speaks::Http2 { max_streams } => {
            conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(max_streams)
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
    };
}

/// Answers 200 with a word.
pub async fn hello(_: Request<Incoming>) -> Response<Body> {
    Response::new(Body::from("hello"))
}

/// Answers after a while, so that latency is the service's and not the machine's.
pub async fn hello_slowly(request: Request<Incoming>) -> Response<Body> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    hello(request).await
}

/// A gRPC answer of encoded messages and trailers.
pub fn grpc(messages: &[&[u8]], trailers: &[(&'static str, &str)]) -> Response<Body> {
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
    for message in messages {
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(*message);
        frames.push(Ok(Frame::data(framed.into())));
    }
    frames.push(Ok(Frame::trailers(headers(trailers))));
    let mut response = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A gRPC answer that is a head and nothing else.
pub fn trailers_only(trailers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers(trailers);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

pub fn upstream(protocol: Protocol, endpoints: &[SocketAddr]) -> Upstream {
    Upstream::new(config(protocol, endpoints)).unwrap()
}

pub fn config(protocol: Protocol, endpoints: &[SocketAddr]) -> Config {
    Config::new("test", endpoints.iter().map(ToString::to_string).collect(), protocol)
}

pub fn client(protocol: Protocol, endpoints: &[SocketAddr]) -> Client {
    upstream(protocol, endpoints).client()
}

/// An address nobody listens on.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "shop.example").body(Body::empty()).unwrap()
}

pub fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("host", "shop.example").body(body.into()).unwrap()
}

pub async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub const SAFE: Options = Options { deadline: None, idempotent: true, safe: true, hash: None };
pub const UNSAFE: Options = Options { deadline: None, idempotent: false, safe: false, hash: None };

/// Waits until something holds, at most ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
