//! What is tried again, and when that stops.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use futures_util::future::join_all;
use upstream::{Body, Config, ErrorKind, Protocol, Retry, Upstream};

use crate::service::{SAFE, Service, UNSAFE, client, config, get, hello, post, text};

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

#[tokio::test]
async fn a_body_that_is_gone_is_not_sent_again() {
    let (address, seen) = hanging_up(1);
    let body = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"stream")));
    let error = client(Protocol::Http1, &[address]).send(post("/", body), SAFE).await.unwrap_err();
    assert_eq!((error.kind, seen.load(SeqCst)), (ErrorKind::Broken, 1));
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
        let config = Config { retry: Retry { attempts: retries, ..Retry::default() }, ..config(Protocol::Http1, &[address]) };
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

#[tokio::test]
async fn the_budget_stops_a_storm() {
    let (address, seen) = hanging_up(usize::MAX);
    let client = client(Protocol::Http1, &[address]);
    for _ in 0..10 {
        let failed = join_all((0..20).map(|_| client.send(get("/"), SAFE))).await;
        assert!(failed.iter().all(Result::is_err));
    }
    let tries = seen.load(SeqCst);
    assert!((210..=243).contains(&tries), "200 requests, a fifth of them again and three: {tries}");
}
