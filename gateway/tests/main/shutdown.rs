//! How the gateway ends: it says that it leaves and serves on, then finishes what is open, streams first.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::Body;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    proxy::{serve, websocket},
    running::{Running, upstream},
};

const BOUND: Duration = Duration::from_secs(20);
/// Longer than any test may take: nothing here ends because the patience does.
const PATIENCE: Duration = Duration::from_secs(300);

/// A gateway whose `/slow` answers when it is told to, and says so when it has been asked.
async fn slow() -> (Running, Arc<Notify>, Arc<Notify>) {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&release));
    let address = upstream(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Response::new(Full::from("finished"))
        }
    })
    .await;
    let gateway = Running::start(&format!(
        "upstreams: {{slow: {{endpoints: ['{address}']}}}}\n\
         routes: [{{match: {{path: /slow}}, timeout: 60s, proxy: slow}}, \
                  {{match: {{path: /}}, respond: {{status: 200, body: here}}}}]\n"
    ))
    .await;
    (gateway, arrived, release)
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(BOUND, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn whoever_leaves_serves_on_until_the_drain() {
    let (gateway, ..) = slow().await;
    eventually("ready", BOUND, async || gateway.readiness.is_ready().then_some(())).await;
    gateway.shutdown.leave(PATIENCE, PATIENCE);
    eventually("not ready", BOUND, async || (!gateway.readiness.is_ready()).then_some(())).await;
    assert_eq!(gateway.get("/").await.body, "here", "also on a new connection");
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_request_is_answered_and_told_that_its_connection_ends() {
    let (gateway, arrived, release) = slow().await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET /slow HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await.unwrap();
    arrived.notified().await;
    gateway.shutdown.begin(PATIENCE);
    release.notify_one();
    let answer = read_to_end(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("finished"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_once() {
    let (gateway, ..) = slow().await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        assert_ne!(timeout(BOUND, socket.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
    gateway.shutdown.begin(PATIENCE);
    assert_eq!(read_to_end(&mut socket).await, "");
    gateway.stop().await;
}

#[tokio::test]
async fn http2_is_told_to_go_away_and_its_open_stream_is_answered() {
    let (gateway, arrived, release) = slow().await;
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get("http://gateway.test/slow").body(Full::<Bytes>::default()).unwrap();
    let asked = tokio::spawn(sender.send_request(request));
    arrived.notified().await;
    gateway.shutdown.begin(PATIENCE);
    eventually("the drain", BOUND, async || TcpStream::connect(gateway.address).await.is_err().then_some(())).await;
    release.notify_one();
    let body = asked.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "finished");
    // The client would have kept it: only GOAWAY ends it.
    timeout(BOUND, ended).await.unwrap().unwrap().unwrap();
    drop(sender);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_ends_in_order_and_a_websocket_may_finish() {
    let events = serve(|_| async {
        let frames = futures_util::stream::once(async {
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"data: one\n\n")))
        });
        let silent = frames.chain(futures_util::stream::pending());
        let mut response = Response::new(Body::new(StreamBody::new(Box::pin(silent))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        response
    })
    .await;
    let gateway = Running::start(&format!(
        "upstreams: {{events: {{endpoints: ['{events}']}}, web: {{endpoints: ['{}']}}}}\n\
         routes: [{{match: {{path: /events}}, proxy: events}}, {{match: {{path: /ws, method: GET}}, proxy: web}}]\n",
        websocket().await
    ))
    .await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let url = format!("ws://{}/ws", gateway.address);
    let (mut websocket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET /events HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("data: one") {
        assert_ne!(timeout(BOUND, socket.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }

    gateway.shutdown.begin(PATIENCE);
    let rest = read_to_end(&mut socket).await;
    assert!(rest.ends_with("0\r\n\r\n"), "the last chunk, not a cut: {rest:?}");
    websocket.send(Message::text("still here")).await.unwrap();
    assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("still here"));
    drop(websocket);
    gateway.stop().await;
}

#[tokio::test]
async fn who_does_not_finish_is_cut_off_when_the_patience_ends() {
    let (gateway, arrived, _release) = slow().await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET /slow HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await.unwrap();
    arrived.notified().await;
    gateway.shutdown.begin(Duration::from_millis(100));
    let mut answer = Vec::new();
    // A reset ends it as well.
    _ = timeout(BOUND, socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
    gateway.stop().await;
}
