//! What a client notices when an instance goes: nothing, where a request may be repeated or was never begun.

use std::{cell::Cell, time::Duration};

use futures_util::future::join;
use http::{HeaderMap, Method};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use upstream::{Client, Options, Protocol};

use crate::service::{SAFE, Service, UNSAFE, client, config, get, grpc, hello_slowly, nobody, post, text};

/// Sixteen at a time, before, while and after something happens to the service; returns how many were sent.
async fn load<F: Future<Output = Result<(), String>>>(
    request: impl Fn() -> F,
    event: impl Future<Output = ()>,
) -> usize {
    let (is_over, sent) = (Cell::new(false), Cell::new(0));
    let workers = futures_util::future::join_all((0..16).map(|_| async {
        while !is_over.get() {
            request().await.unwrap();
            sent.set(sent.get() + 1);
        }
    }));
    join(workers, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        event.await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        is_over.set(true);
    })
    .await;
    sent.get()
}

async fn fetch(client: &Client) -> Result<(), String> {
    let response = client.send(get("/"), SAFE).await.map_err(|error| error.to_string())?;
    assert_eq!(text(response).await, "hello");
    Ok(())
}

async fn call(client: &Client, options: Options) -> Result<(), String> {
    let reply = client.unary("/grpc.health.v1.Health/Check", HeaderMap::new(), Default::default(), options).await;
    reply.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn a_killed_http_instance_fails_no_idempotent_request() {
    let (mut one, two) = (Service::http1(hello_slowly).await, Service::http1(hello_slowly).await);
    let client = client(Protocol::Http1, &[one.address, two.address]);
    let sent = load(|| fetch(&client), one.kill()).await;
    assert!(sent > 100 && one.requests() > 10);
}

#[tokio::test]
async fn a_killed_grpc_instance_fails_no_idempotent_call() {
    let answer = |_| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        grpc(&[b""], &[("grpc-status", "0")])
    };
    let (mut one, two) = (Service::http2(answer).await, Service::http2(answer).await);
    let client = client(Protocol::Grpc, &[one.address, two.address]);
    let sent = load(|| call(&client, SAFE), one.kill()).await;
    assert!(sent > 100 && one.requests() > 10);
}

#[tokio::test]
async fn a_drained_tonic_instance_fails_no_call_at_all() {
    let (one, two) = (Tonic::start().await, Tonic::start().await);
    let client = client(Protocol::Grpc, &[one.address, two.address]);
    let sent = load(|| call(&client, UNSAFE), async { one.drain.cancel() }).await;
    assert!(sent > 100);
    assert!(TcpListener::bind(one.address).await.is_ok(), "the drained instance is gone");
}

#[tokio::test]
async fn a_refused_connection_costs_not_even_a_post() {
    let service = Service::http1(hello_slowly).await;
    for attempt in 0..20 {
        let client = client(Protocol::Http1, &[nobody().await, service.address]);
        let response = client.send(post("/", "order"), UNSAFE).await.unwrap();
        assert_eq!(text(response).await, "hello");
        assert_eq!(service.requests(), attempt + 1);
    }
}

#[tokio::test]
async fn a_refusing_endpoint_is_avoided_for_a_while() {
    let service = Service::http1(hello_slowly).await;
    let upstream = upstream::Upstream::new(config(Protocol::Http1, &[nobody().await, service.address])).unwrap();
    let client = upstream.client();
    let is_suspect = || upstream.endpoints()[0].reason.starts_with("can't connect");
    for _ in 0..50 {
        fetch(&client).await.unwrap();
        if is_suspect() {
            return;
        }
    }
    panic!("the refusing endpoint was never tried");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let client = client(Protocol::Http1, &[nobody().await, nobody().await]);
    for method in [Method::GET, Method::POST] {
        let mut request = get("/");
        *request.method_mut() = method;
        let error = client.send(request, SAFE).await.unwrap_err();
        assert_eq!(error.kind, upstream::ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().starts_with("upstream test: can't connect to 127.0.0.1:"), "{error}");
    }
}

/// A tonic server with the health service.
struct Tonic {
    address: std::net::SocketAddr,
    drain: CancellationToken,
}

impl Tonic {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let (_, health) = tonic_health::server::health_reporter();
        let served = tonic::transport::Server::builder()
            .add_service(health)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), drain.clone().cancelled_owned());
        tokio::spawn(async move { served.await.unwrap() });
        Self { address, drain }
    }
}
