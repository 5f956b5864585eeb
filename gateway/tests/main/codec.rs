//! What of HTTP/1.1 shows at the gateway's edge, beside what it refuses.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::running::{Running, echo, passing_on, upstream};

const LONG: Duration = Duration::from_secs(30);

/// Reads until what came ends like this.
async fn until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(LONG, socket.read_u8()).await;
        text.push(byte.unwrap_or_else(|_| panic!("so far: {}", String::from_utf8_lossy(&text))).unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// A gateway before a service that answers with the length of what it was sent.
async fn measuring(sections: &str) -> Running {
    let service = upstream(|request| async {
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Response::new(Full::new(Bytes::from(format!("length {length}."))))
    })
    .await;
    Running::start(&format!("{sections}{}", passing_on(service))).await
}

#[tokio::test]
async fn a_client_that_holds_its_body_back_is_asked_for_it_only_if_it_is_wanted() {
    let gateway = measuring("limits: {body: 1KiB}\n").await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let head = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    socket.write_all(head(5).as_bytes()).await.unwrap();
    assert_eq!(until(&mut socket, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    assert!(until(&mut socket, "length 5.").await.starts_with("HTTP/1.1 200 OK\r\n"));
    socket.write_all(head(5000).as_bytes()).await.unwrap();
    let mut refusal = String::new();
    socket.read_to_string(&mut refusal).await.unwrap();
    assert!(refusal.starts_with("HTTP/1.1 413 "), "{refusal}");
    assert!(refusal.contains("\r\nconnection: close\r\n"), "it may send its body or not: {refusal}");
    gateway.stop().await;
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_their_order() {
    let gateway = measuring("").await;
    let post =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    let lengths = [1, 0, 70_000, 3];
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = gateway.raw(format!("{}{last}", lengths.map(post).concat()).as_bytes()).await;
    let told: Vec<_> = answers.split("length: ").flat_map(|part| part.split("length ").skip(1)).collect();
    let told: Vec<_> = told.iter().filter_map(|part| part.split('.').next()).collect();
    assert_eq!(told, ["1", "0", "70000", "3", "0"], "{answers}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_body_passes_whole_both_ways() {
    let mirror = upstream(|request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body))
    })
    .await;
    let gateway = Running::start(&passing_on(mirror)).await;
    let text: String = (0..4_000_000).map(|number: u32| char::from(b'a' + (number % 26) as u8)).collect();
    let answer = gateway.send("POST", "/", &[], &text).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == text, "{} of {} bytes", answer.body.len(), text.len());
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_stays_where_a_small_body_was_not_wanted() {
    let config = "routes:\n- {match: {path: /, method: POST}, respond: {status: 200, body: enough}}\n";
    let gateway = Running::start(config).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        assert!(!until(&mut socket, "enough").await.contains("connection: close"));
        socket.write_all(&[b'x'; 1000]).await.unwrap();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let silent = upstream(|_| std::future::pending()).await;
    let gateway = Running::start(&passing_on(silent)).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    testkit::eventually("it is under way", LONG, || async { counted("turnpike_gateway_in_flight", " 1") }).await;
    drop(socket);
    testkit::eventually("it is given up", LONG, || async { counted("turnpike_gateway_in_flight", " 0") }).await;
    let text = telemetry::render();
    let line = text.lines().find(|line| line.starts_with("turnpike_gateway_requests_total"));
    assert!(line.is_some_and(|line| line.contains("4xx")), "{line:?}");
    gateway.stop().await;
}

fn counted(metric: &str, end: &str) -> Option<()> {
    let text = telemetry::render();
    let line = text.lines().find(|line| line.starts_with(metric))?;
    line.ends_with(end).then_some(())
}

#[tokio::test]
async fn http_1_0_is_answered_in_kind() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answers = gateway.raw(format!("{kept}GET / HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.0 200 OK\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("connection: keep-alive\r\n").count(), 1, "{answers}");
    assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{answers}");
    gateway.stop().await;
}
