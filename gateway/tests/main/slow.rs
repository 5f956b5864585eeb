//! Clients that take their time: with a head, with a body, with an answer, between two requests.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::running::{Running, echo, passing_on, upstream};

const HURRIED: &str = "limits: {patience: {head: 1s, request: 3s, idle: 1s, over: 1s}}\n";
/// More than enough for what takes seconds.
const LONG: Duration = Duration::from_secs(30);

/// All that comes until the gateway closes.
async fn rest(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    _ = tokio::time::timeout(LONG, socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_timeout(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("https://turnpike.dev/problems/request-timeout"), "{answer}");
}

/// Sends a byte from time to time, until the connection is closed.
async fn drip(address: std::net::SocketAddr, head: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = socket.split();
    let mut answer = Vec::new();
    let dripping = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = async { dripping.await; std::future::pending().await } => {}
        () = tokio::time::sleep(LONG) => panic!("still open"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_head_or_a_body_that_drips_is_told_so_and_others_are_served() {
    let gateway = Running::start(&format!("{HURRIED}{}", passing_on(echo().await))).await;
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    let chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    let (head, body, chunks, honest) = tokio::join!(
        drip(gateway.address, "GET / HTTP/1.1\r\nHost: a\r\nX: "),
        drip(gateway.address, body),
        drip(gateway.address, chunks),
        gateway.get("/"),
    );
    for answer in [head, body, chunks] {
        is_timeout(&answer);
    }
    assert_eq!(honest.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_takes_too_long_though_it_keeps_coming_is_told_so() {
    let gateway = Running::start(&format!("{HURRIED}{}", passing_on(echo().await))).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n").await.unwrap();
    let start = Instant::now();
    let (mut reading, mut writing) = socket.split();
    let mut answer = Vec::new();
    let sending = async {
        while writing.write_all(&[b'x'; 2000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = sending => {}
        () = tokio::time::sleep(LONG) => panic!("still open"),
    }
    is_timeout(&String::from_utf8_lossy(&answer));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    const SIZE: usize = 64 << 20;
    let large = upstream(|_| async { Response::new(Full::new(Bytes::from(vec![b'x'; SIZE]))) }).await;
    let gateway = Running::start(&format!("{HURRIED}{}", passing_on(large))).await;
    let mut lazy = TcpStream::connect(gateway.address).await.unwrap();
    lazy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    testkit::eventually("the connection is given up", LONG, || async {
        let text = telemetry::render();
        let open = text.lines().find(|line| line.starts_with("turnpike_gateway_connections "));
        open.is_some_and(|line| line.ends_with(" 0")).then_some(())
    })
    .await;
    assert!(rest(&mut lazy).await.len() < SIZE);
    let mut honest = TcpStream::connect(gateway.address).await.unwrap();
    honest.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut honest).await.len() > SIZE);
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_not_used_again_is_closed_without_a_word() {
    let gateway = Running::start(&format!("{HURRIED}{}", passing_on(echo().await))).await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = rest(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    gateway.stop().await;
}
