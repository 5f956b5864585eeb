//! What is tried again, and when that stops.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use upstream::{Body, Client, Config, ErrorKind, On, Options, Protocol, Retry, Upstream};

use crate::service::{SAFE, Service, UNSAFE, client, config, get, grpc, hello, post, text, trailers_only};

/// Reads a request and hangs up, for the first `hang_ups` of them; answers the others.
fn hanging_up(hang_ups: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            if counted.fetch_add(1, SeqCst) >= hang_ups {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        }
    });
    (address, seen)
}

#[tokio::test]
async fn an_idempotent_request_is_tried_again_where_the_connection_breaks() {
    let (address, seen) = hanging_up(1);
    let response = client(Protocol::Http1, &[address]).send(get("/"), SAFE).await.unwrap();
    assert_eq!(text(response).await, "ok");
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test]
async fn a_post_that_may_have_been_read_is_not_sent_again() {
    let (address, seen) = hanging_up(1);
    let error = client(Protocol::Http1, &[address]).send(post("/", "order"), UNSAFE).await.unwrap_err();
    assert_eq!((error.kind, seen.load(SeqCst)), (ErrorKind::Broken, 1));
}

/// A body that comes in parts, each at once or when it is asked for again.
fn parts(at_once: bool) -> Body {
    let parts = ["in ", "parts"].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from_static(part.as_bytes()))));
    let parts = futures_util::stream::iter(parts);
    if at_once {
        return Body::new(StreamBody::new(parts));
    }
    Body::new(StreamBody::new(parts.then(async |part| {
        tokio::task::yield_now().await;
        part
    })))
}

#[tokio::test]
async fn a_body_that_is_gone_is_not_sent_again() {
    let (address, seen) = hanging_up(1);
    let error = client(Protocol::Http1, &[address]).send(post("/", parts(false)), SAFE).await.unwrap_err();
    assert_eq!((error.kind, seen.load(SeqCst)), (ErrorKind::Broken, 1));
}

#[tokio::test]
async fn a_small_body_that_came_with_its_head_is_sent_again() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let service = failing(protocol, 1, status(503, None)).await;
        let client = retrying(protocol, &service, on(&[On::Status(503)]));
        assert_eq!(text(client.send(post("/", parts(true)), SAFE).await.unwrap()).await, "in parts");
        assert_eq!(service.requests(), 2);
    }
}

#[tokio::test]
async fn a_body_never_sent_can_be_sent_elsewhere() {
    let service = Service::http1(hello).await;
    for protocol_retries in 0..20 {
        let client = client(Protocol::Http1, &[crate::service::nobody().await, service.address]);
        let body = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"stream")));
        client.send(post("/", body), UNSAFE).await.unwrap();
        assert_eq!(service.requests(), protocol_retries + 1);
    }
}

#[tokio::test]
async fn as_many_retries_are_made_as_configured() {
    for retries in 0..=3 {
        let (address, seen) = hanging_up(usize::MAX);
        let config =
            Config { retry: Retry { attempts: retries, ..Retry::default() }, ..config(Protocol::Http1, &[address]) };
        let error = Upstream::new(config).unwrap().client().send(get("/"), SAFE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Broken);
        assert_eq!(seen.load(SeqCst), 1 + retries as usize);
    }
}

#[tokio::test]
async fn an_answer_of_whatever_status_is_an_answer() {
    let service =
        Service::http1(|_| async { http::Response::builder().status(503).body(Body::empty()).unwrap() }).await;
    let client = client(Protocol::Http1, &[service.address]);
    assert_eq!(client.send(get("/"), SAFE).await.unwrap().status(), 503);
    assert_eq!(service.requests(), 1);
}

/// Fails so many requests by an answer, and then says back what it is sent.
async fn failing<F>(protocol: Protocol, failures: usize, fail: F) -> Service
where
    F: Fn() -> Response<Body> + Send + Sync + 'static,
{
    let seen = AtomicUsize::new(0);
    let handler = move |request: Request<Incoming>| {
        let failed = (seen.fetch_add(1, SeqCst) < failures).then(&fail);
        let previous = request.headers().get("grpc-previous-rpc-attempts").cloned();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if let Some(failed) = failed {
                return failed;
            }
            if protocol == Protocol::Grpc {
                let message = previous.map(|previous| previous.as_bytes().to_vec()).unwrap_or_default();
                return grpc(&[&message], &[("grpc-status", "0")]);
            }
            Response::new(Body::from(body))
        }
    };
    match protocol {
        Protocol::Http1 => Service::http1(handler).await,
        Protocol::Http2 | Protocol::Grpc => Service::http2(handler).await,
    }
}

fn retrying(protocol: Protocol, service: &Service, retry: Retry) -> Client {
    Upstream::new(Config { retry, ..config(protocol, &[service.address]) }).unwrap().client()
}

fn on(on: &[On]) -> Retry {
    Retry { on: on.to_vec(), ..Retry::default() }
}

fn status(status: u16, retry_after: Option<&'static str>) -> impl Fn() -> Response<Body> {
    move || {
        let response = Response::builder().status(status);
        let response = retry_after.into_iter().fold(response, |response, told| response.header("retry-after", told));
        response.body(Body::from("not now")).unwrap()
    }
}

#[tokio::test]
async fn a_status_is_tried_again_where_that_is_asked_for_and_the_request_is_idempotent() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let service = failing(protocol, 1, status(503, None)).await;
        let client = retrying(protocol, &service, on(&[On::Status(503)]));
        let response = client.send(post("/", "whole"), SAFE).await.unwrap();
        assert_eq!(text(response).await, "whole", "{protocol:?}: its body went with it");
        assert_eq!(service.requests(), 2);

        let service = failing(protocol, 1, status(503, None)).await;
        let client = retrying(protocol, &service, on(&[On::Status(503)]));
        let response = client.send(post("/", "order"), UNSAFE).await.unwrap();
        assert_eq!((response.status(), service.requests()), (StatusCode::SERVICE_UNAVAILABLE, 1));
        assert_eq!(text(response).await, "not now");
    }
}

#[tokio::test]
async fn the_last_answer_stands_where_all_are_bad() {
    let service = failing(Protocol::Http1, usize::MAX, status(502, None)).await;
    let client = retrying(Protocol::Http1, &service, Retry { attempts: 2, ..on(&[On::Status(502)]) });
    let response = client.send(get("/"), SAFE).await.unwrap();
    assert_eq!((response.status(), service.requests()), (StatusCode::BAD_GATEWAY, 3));
    assert_eq!(text(response).await, "not now");
}

#[tokio::test]
async fn a_service_that_says_when_is_asked_then_or_not_at_all() {
    let service = failing(Protocol::Http1, 1, status(503, Some("1"))).await;
    let client = retrying(Protocol::Http1, &service, on(&[On::Status(503)]));
    let started = Instant::now();
    let within = Options::within(Duration::from_secs(30)).idempotent();
    assert_eq!(client.send(get("/"), within).await.unwrap().status(), 200);
    assert!(started.elapsed() >= Duration::from_secs(1));

    let service = failing(Protocol::Http1, 1, status(503, Some("60"))).await;
    let client = retrying(Protocol::Http1, &service, on(&[On::Status(503)]));
    let response = client.send(get("/"), within).await.unwrap();
    assert_eq!((response.status(), service.requests()), (StatusCode::SERVICE_UNAVAILABLE, 1), "that is too late");
    assert_eq!(response.headers()["retry-after"], "60", "the caller may wait longer");
}

#[tokio::test]
async fn who_sends_too_much_waits_only_where_it_is_told_how_long() {
    let service = failing(Protocol::Http1, 1, status(429, None)).await;
    let client = retrying(Protocol::Http1, &service, on(&[On::Status(429)]));
    assert_eq!(client.send(get("/"), SAFE).await.unwrap().status(), 429);
    let service = failing(Protocol::Http1, 1, status(429, Some("0"))).await;
    let client = retrying(Protocol::Http1, &service, on(&[On::Status(429)]));
    assert_eq!(client.send(get("/"), SAFE).await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_tried_again() {
    let (address, seen) = hanging_up(1);
    let config = Config { retry: on(&[On::Connect]), ..config(Protocol::Http1, &[address]) };
    let error = Upstream::new(config).unwrap().client().send(get("/"), SAFE).await.unwrap_err();
    assert_eq!((error.kind, seen.load(SeqCst)), (ErrorKind::Broken, 1));
}

#[tokio::test]
async fn a_grpc_service_may_push_back() {
    let unavailable =
        |pushback: &'static str| move || trailers_only(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)]);
    let call = async |service: &Service, options| {
        let client = retrying(Protocol::Grpc, service, Retry::default());
        client.unary("/a.B/C", Default::default(), Default::default(), options).await
    };
    let service = failing(Protocol::Grpc, 1, unavailable("0")).await;
    let reply = call(&service, SAFE).await.unwrap();
    assert_eq!(&reply.message[..], b"1", "the service is told that a try came before");

    let service = failing(Protocol::Grpc, 1, unavailable("300")).await;
    let started = Instant::now();
    call(&service, SAFE).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));

    for (pushback, options) in [("-1", SAFE), ("60000", SAFE), ("0", UNSAFE)] {
        let service = failing(Protocol::Grpc, 1, unavailable(pushback)).await;
        assert_eq!(call(&service, options).await.unwrap_err().code, 14);
        assert_eq!(service.requests(), 1, "{pushback}");
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_for_another_but_the_last_has_all_the_time() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let seen = AtomicUsize::new(0);
        let handler = move |request: Request<Incoming>| {
            let wait = Duration::from_millis(if seen.fetch_add(1, SeqCst) == 0 { 60_000 } else { 400 });
            async move {
                tokio::time::sleep(wait).await;
                Response::new(Body::from(request.into_body().collect().await.unwrap().to_bytes()))
            }
        };
        let service = match protocol {
            Protocol::Http1 => Service::http1(handler).await,
            Protocol::Http2 | Protocol::Grpc => Service::http2(handler).await,
        };
        let retry = Retry { per_try_timeout: Some(Duration::from_millis(100)), ..Retry::default() };
        let client = retrying(protocol, &service, retry);
        assert_eq!(text(client.send(post("/", "whole"), SAFE).await.unwrap()).await, "whole", "{protocol:?}");
        assert_eq!(service.requests(), 2);
        assert_eq!(text(client.send(post("/", "order"), UNSAFE).await.unwrap()).await, "order", "it has one try");
        assert_eq!(service.requests(), 3);
    }
}

#[tokio::test]
async fn the_budget_stops_a_storm() {
    let (address, seen) = hanging_up(usize::MAX);
    let config = Config { breaker: None, ..config(Protocol::Http1, &[address]) };
    let client = Upstream::new(config).unwrap().client();
    for _ in 0..10 {
        let failed = join_all((0..20).map(|_| client.send(get("/"), SAFE))).await;
        assert!(failed.iter().all(Result::is_err));
    }
    let tries = seen.load(SeqCst);
    assert!((210..=243).contains(&tries), "200 requests, a fifth of them again and three: {tries}");
}
