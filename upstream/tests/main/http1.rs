//! Connections of HTTP/1.1: kept, reused, and given up where they must be.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use upstream::{ErrorKind, Protocol};

use crate::service::{SAFE, Service, UNSAFE, client, get, hello, hello_slowly, post, text, until, upstream};

#[tokio::test]
async fn one_connection_serves_one_request_after_another() {
    let service = Service::http1(hello).await;
    let client = client(Protocol::Http1, &[service.address]);
    for _ in 0..50 {
        assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "hello");
    }
    assert_eq!((service.requests(), service.connections()), (50, 1));
}

#[tokio::test]
async fn an_answer_without_a_body_gives_its_connection_back() {
    let service =
        Service::http1(|_| async { http::Response::builder().status(204).body(upstream::Body::empty()).unwrap() })
            .await;
    let client = client(Protocol::Http1, &[service.address]);
    for _ in 0..20 {
        client.send(get("/"), SAFE).await.unwrap();
    }
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn concurrent_requests_have_connections_of_their_own_and_share_them_later() {
    let service = Service::http1(hello_slowly).await;
    let client = client(Protocol::Http1, &[service.address]);
    for _ in 0..5 {
        join_all((0..8).map(|_| async { text(client.send(get("/"), SAFE).await.unwrap()).await })).await;
    }
    assert_eq!((service.requests(), service.connections()), (40, 8));
}

#[tokio::test]
async fn a_body_given_up_closes_its_connection() {
    let service = Service::http1(|_| async { http::Response::new(crate::stream::endless()) }).await;
    let upstream = upstream(Protocol::Http1, &[service.address]);
    let client = upstream.client();
    for _ in 0..3 {
        drop(client.send(get("/"), SAFE).await.unwrap());
    }
    assert_eq!(service.connections(), 3);
    until("nothing is under way", || upstream.endpoints()[0].in_flight == 0).await;
}

/// Answers each connection once and closes it without having said so; counts the requests it read.
fn closing() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            counted.fetch_add(1, SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        }
    });
    (address, read)
}

/// Answers each connection once with these bytes, when it has read a head, and then closes it or waits for more.
fn saying(answer: &'static [u8], closes: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, SeqCst);
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer).unwrap();
            if closes {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            open.push(stream);
        }
    });
    (address, connections)
}

#[tokio::test]
async fn an_answer_that_could_be_read_differently_is_none() {
    for answer in [
        &b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let (address, _) = saying(answer, false);
        let error = client(Protocol::Http1, &[address]).send(post("/", ""), UNSAFE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Broken, "{error}");
        assert!(error.detail.contains("not valid"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_shorter_one() {
    use http_body_util::BodyExt as _;
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        let (address, _) = saying(answer, true);
        let response = client(Protocol::Http1, &[address]).send(get("/"), SAFE).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn a_service_that_speaks_unasked_loses_its_connection() {
    let unasked = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (address, connections) = saying(unasked, false);
    let client = client(Protocol::Http1, &[address]);
    for number in 1..=3 {
        assert_eq!(client.send(post("/", ""), UNSAFE).await.unwrap().status(), 204);
        assert_eq!(connections.load(SeqCst), number);
    }
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_upload_has_ended_is_the_answer() {
    let (address, _) = saying(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno", false);
    let client = client(Protocol::Http1, &[address]);
    let response = client.send(post("/", crate::stream::endless()), UNSAFE).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "no");
}

/// Blocks the runtime until the connection has ended, so that its task can't have noticed.
fn let_it_end() {
    thread::sleep(Duration::from_millis(20));
}

#[tokio::test]
async fn a_connection_seen_to_be_stale_costs_not_even_a_post() {
    let (address, read) = closing();
    let client = client(Protocol::Http1, &[address]);
    for _ in 0..10 {
        let response = client.send(post("/", ""), UNSAFE).await.unwrap();
        assert_eq!(text(response).await, "hello");
        let_it_end();
        // The end is known to the runtime now, not yet to the connection's task.
        tokio::task::yield_now().await;
    }
    assert_eq!(read.load(SeqCst), 10, "no request was sent twice");
}

#[tokio::test]
async fn a_connection_that_goes_stale_under_a_request_costs_no_get() {
    let (address, _) = closing();
    let client = client(Protocol::Http1, &[address]);
    // No more than the budget covers, should every one of them be hit.
    for _ in 0..4 {
        assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "hello");
        let_it_end();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clones_on_many_threads_share_the_connections() {
    let service = Service::http1(hello).await;
    let client = client(Protocol::Http1, &[service.address]);
    let workers = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "hello");
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert_eq!(service.requests(), 800);
    assert!(service.connections() <= 100, "{} connections", service.connections());
}
