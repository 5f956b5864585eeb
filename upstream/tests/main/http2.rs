//! Connections of HTTP/2: one for all, more where its streams are used up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::Response;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use upstream::{Body, Config, ErrorKind, Protocol, Upstream};

use crate::service::{SAFE, Service, UNSAFE, client, config, get, hello, hello_slowly, post, text};

#[tokio::test]
async fn all_who_come_at_once_share_one_connection() {
    let service = Service::http2(hello_slowly).await;
    let client = client(Protocol::Http2, &[service.address]);
    join_all((0..50).map(|_| async { text(client.send(get("/"), SAFE).await.unwrap()).await })).await;
    assert_eq!((service.requests(), service.connections()), (50, 1));
}

#[tokio::test]
async fn connections_are_added_where_streams_are_used_up() {
    let service = Service::http2_of(5, hello_slowly).await;
    let once = Config {
        retry: upstream::Retry { attempts: 0, ..Default::default() },
        ..config(Protocol::Http2, &[service.address])
    };
    let client = Upstream::new(once).unwrap().client();
    // Its settings are known after the first answer.
    text(client.send(get("/"), SAFE).await.unwrap()).await;
    join_all((0..60).map(|_| async { text(client.send(get("/"), SAFE).await.unwrap()).await })).await;
    assert_eq!(service.requests(), 61);
    assert_eq!(service.connections(), 4, "and no more: the rest waits for a stream");
}

#[tokio::test]
async fn where_no_more_connections_may_be_opened_a_stream_is_waited_for() {
    let service = Service::http2_of(5, hello_slowly).await;
    let caps = upstream::Caps { connections: 1, ..Default::default() };
    let client = Upstream::new(Config { caps, ..config(Protocol::Http2, &[service.address]) }).unwrap().client();
    text(client.send(get("/"), UNSAFE).await.unwrap()).await;
    join_all((0..30).map(|_| async { text(client.send(post("/", "order"), UNSAFE).await.unwrap()).await })).await;
    assert_eq!((service.requests(), service.connections()), (31, 1));
}

#[tokio::test]
async fn the_authority_is_the_incoming_host() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        Response::new(Body::from(request.uri().to_string()))
    })
    .await;
    let client = client(Protocol::Http2, &[service.address]);
    assert_eq!(text(client.send(get("/a?b=c"), SAFE).await.unwrap()).await, "http://shop.example/a?b=c");
}

#[tokio::test]
async fn a_body_in_memory_says_how_long_it_is() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        Response::new(Body::from(request.headers()["content-length"].to_str().unwrap().to_owned()))
    })
    .await;
    let client = client(Protocol::Http2, &[service.address]);
    assert_eq!(text(client.send(post("/", "12345"), UNSAFE).await.unwrap()).await, "5");
}

#[tokio::test]
async fn a_request_that_came_without_a_body_has_one_that_can_be_sent_again() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        let body = Body::from(request.into_body());
        Response::new(Body::from(format!("{} {}", body.is_whole(), body.repeat().is_some())))
    })
    .await;
    let client = client(Protocol::Http2, &[service.address]);
    assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "true true");
    assert_eq!(text(client.send(post("/", "order"), UNSAFE).await.unwrap()).await, "false false");
}

#[tokio::test]
async fn those_who_don_t_read_their_answers_hold_nobody_up() {
    const LARGE: usize = 512 * 1024;
    let service = Service::http2_of(1000, |request: http::Request<hyper::body::Incoming>| async move {
        let size = if request.uri().path() == "/large" { LARGE } else { 5 };
        Response::new(Body::from("x".repeat(size)))
    })
    .await;
    let client = client(Protocol::Http2, &[service.address]);
    let mut unread = join_all((0..100).map(|_| client.send(get("/large"), UNSAFE))).await;
    let small = tokio::time::timeout(Duration::from_secs(10), async {
        text(client.send(get("/"), UNSAFE).await.unwrap()).await
    });
    assert_eq!(small.await.expect("one that reads its answer gets it"), "xxxxx");
    let read = unread.pop().unwrap().unwrap();
    let read = tokio::time::timeout(Duration::from_secs(10), text(read)).await;
    assert_eq!(read.expect("so does one that begins to read").len(), LARGE);
}

/// Accepts connections, refuses the first `refusals` streams by REFUSED_STREAM, answers the others.
async fn refusing(refusals: usize) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if counted.fetch_add(1, SeqCst) < refusals {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_even_for_a_post() {
    let (address, seen) = refusing(1).await;
    client(Protocol::Http2, &[address]).send(post("/", "order"), UNSAFE).await.unwrap();
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test]
async fn a_service_that_refuses_every_stream_is_unreachable() {
    let (address, seen) = refusing(usize::MAX).await;
    let error = client(Protocol::Http2, &[address]).send(post("/", "order"), UNSAFE).await.unwrap_err();
    assert_eq!((error.kind, seen.load(SeqCst)), (ErrorKind::Unreachable, 2));
}

#[tokio::test]
async fn a_connection_that_ended_is_replaced() {
    let mut service = Service::http2(hello).await;
    let address = service.address;
    let client = client(Protocol::Http2, &[address]);
    text(client.send(get("/"), SAFE).await.unwrap()).await;
    service.kill().await;
    let error = client.send(get("/"), UNSAFE).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Broken), "{error}");
    let (again, _) = loop {
        // The port stays taken for as long as the old connections take to close.
        if let Ok(listener) = TcpListener::bind(address).await {
            break (listener, ());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    tokio::spawn(async move {
        let (stream, _) = again.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    client.send(get("/"), UNSAFE).await.unwrap();
}

/// Serves HTTP/2 until told to freeze: then it reads and writes nothing more, and its connections stay open.
async fn freezing() -> (std::net::SocketAddr, Arc<tokio::sync::Notify>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (freeze, accepted) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (frozen, counted) = (Arc::clone(&freeze), Arc::clone(&accepted));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, SeqCst);
            let frozen = Arc::clone(&frozen);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                loop {
                    tokio::select! {
                        request = connection.accept() => {
                            let Some(Ok((_, mut respond))) = request else { return };
                            respond.send_response(Response::new(()), true).unwrap();
                        }
                        () = frozen.notified() => std::future::pending::<()>().await,
                    }
                }
            });
        }
    });
    (address, freeze, accepted)
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_found_out_and_replaced() {
    let (address, freeze, accepted) = freezing().await;
    let client = client(Protocol::Http2, &[address]);
    client.send(get("/"), SAFE).await.unwrap();
    freeze.notify_one();
    let late = client.send(get("/"), upstream::Options::within(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Deadline);
    // Passes the time that the ping has.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(10)).await;
    tokio::time::resume();
    // tokio's clock is now ahead of the one deadlines are in.
    tokio::time::timeout(Duration::from_secs(5), client.send(get("/"), SAFE)).await.unwrap().unwrap();
    assert_eq!(accepted.load(SeqCst), 2);
}

#[tokio::test]
async fn a_connection_told_to_go_away_finishes_what_it_has_and_takes_nothing_new() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    // Goes away upon its first request, and answers it a little later.
                    connection.graceful_shutdown();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                        respond.send_response(Response::new(()), true).unwrap();
                    });
                }
            });
        }
    });
    let client = client(Protocol::Http2, &[address]);
    for _ in 0..3 {
        client.send(post("/", "order"), UNSAFE).await.unwrap();
    }
    assert_eq!(accepted.load(SeqCst), 3, "each had to have a connection of its own");
}

/// Goes away when it has two requests, having looked at the first alone, as a service does that is told to stop. Answers
/// every other connection's requests. Counts those it looked at.
async fn going_away() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    const HEADERS: u8 = 1;
    const HEAD_IS_ALL: u8 = 0x5;
    /// A frame of this type and stream.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let looked_at = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looked_at);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let mut asked = Vec::new();
        while asked.len() < 2 {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if head[3] == HEADERS {
                asked.push(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
        }
        let last = [asked[0].to_be_bytes(), [0; 4]].concat();
        stream.write_all(&frame(7, 0, 0, &last)).await.unwrap();
        // `:status: 200`
        stream.write_all(&frame(HEADERS, HEAD_IS_ALL, asked[0], &[0x88])).await.unwrap();
        counted.fetch_add(1, SeqCst);
        let (next, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(next).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            counted.fetch_add(1, SeqCst);
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    (address, looked_at)
}

#[tokio::test]
async fn what_a_service_that_goes_away_did_not_look_at_is_sent_again_even_a_post() {
    let (address, looked_at) = going_away().await;
    let client = client(Protocol::Http2, &[address]);
    let orders = join_all((0..2).map(|_| client.send(post("/", "order"), UNSAFE))).await;
    assert!(orders.iter().all(Result::is_ok), "{orders:?}");
    assert_eq!(looked_at.load(SeqCst), 2, "each was done once");
}
