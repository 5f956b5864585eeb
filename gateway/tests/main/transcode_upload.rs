//! Calls that stream requests, and bodies of any bytes (`google.api.HttpBody`).

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    http_rules::serving,
    library::{Answer, Library, descriptors_file},
    running::Running,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

async fn collecting() -> Library {
    Library::start(|_| Answer::Raw(Bytes::new())).await
}

#[tokio::test]
async fn elements_of_an_array_and_lines_are_messages() {
    let library = collecting().await;
    let (gateway, _descriptors) = serving(&library, "Streams", "").await;
    let both = [json!({"text": "a"}), json!({"text": "b"})];
    for (kind, body, messages) in [
        (JSON, r#"[{"text": "a"}, {"text": "b"}]"#, &both[..]),
        (NDJSON, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", &both),
        (JSON, r#"{"text": "a"}{"text": "b"}"#, &both),
        (JSON, r#"[{"text": "a"}]"#, &both[..1]),
    ] {
        let answer = gateway.send("POST", "/v1/collect", &[kind], body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(library.calls().last().unwrap().all(), messages, "{body}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn path_and_query_are_said_in_the_first_message() {
    let library = collecting().await;
    let (gateway, _descriptors) = serving(&library, "Streams", "").await;
    gateway.send("POST", "/v1/collect/7", &[JSON], r#"[{"text": "a"}, {"text": "b"}]"#).await;
    assert_eq!(library.call().all(), [json!({"messageId": "7", "text": "a"}), json!({"text": "b"})]);
    gateway.send("POST", "/v1/updates/7", &[NDJSON], "{\"text\": \"a\"}\n{\"text\": \"b\"}").await;
    let first = json!({"messageId": "7", "message": {"text": "a"}});
    assert_eq!(library.calls()[1].all(), [first, json!({"message": {"text": "b"}})]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_one_message_is_told_by_its_number() {
    let (gateway, _descriptors) = serving(&collecting().await, "Streams", "").await;
    let answer = gateway.send("POST", "/v1/collect", &[JSON], r#"[{}, {"txt": 1}]"#).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.problem()["errors"], json!([{"field": "[1].txt", "reason": "is not a known field"}]));
    let large = format!("[{{\"text\": \"{}\"}}]", "x".repeat(1 << 20));
    for (kind, body, status, said) in [
        (JSON, "[{}", 400, "message 1 of the body: the text ends"),
        (JSON, "[{},]", 400, "the array is not well formed"),
        (JSON, "[{}, {\"text\": 'x'}]", 400, "message 1 of the body: the body is not valid JSON"),
        (NDJSON, "{}\n{\"text\": ", 400, "message 1 of the body"),
        (JSON, &large, 413, ""),
        (("content-type", "text/plain"), "{}", 415, "application/x-ndjson"),
    ] {
        let answer = gateway.send("POST", "/v1/collect", &[kind], body).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said), "{detail}");
    }
    gateway.stop().await;
}

/// A service that sends every message back as it comes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async {
                let mut body = request.into_body();
                let (sender, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    while let Some(frame) = body.frame().await {
                        let Ok(frame) = frame else { return };
                        if let Ok(data) = frame.into_data() {
                            sender.send(Ok::<_, Infallible>(Frame::data(data))).await.unwrap_or_default();
                        }
                    }
                    let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
                    sender.send(Ok(Frame::trailers(ok))).await.unwrap_or_default();
                });
                let mut response = Response::new(StreamBody::new(ReceiverStream::new(receiver)));
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                Ok::<_, Infallible>(response)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn chatting(service: &str) -> (Running, tempfile::TempPath) {
    let (address, descriptors) = (echo().await, descriptors_file());
    let config = format!(
        "upstreams:\n  chat: {{ endpoints: ['{address}'], protocol: grpc, descriptors: '{}' }}\n\
         routes:\n  - {{ grpc: messaging.v1.{service}, upstream: chat }}\n",
        descriptors.display(),
    );
    (Running::start(&config).await, descriptors)
}

type Lines = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

/// A request whose body the test sends as it likes.
async fn open(gateway: &Running, path: &str, headers: &[(&str, &str)]) -> (Lines, Response<Incoming>) {
    let (sender, receiver) = mpsc::channel(4);
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://gateway.test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(StreamBody::new(ReceiverStream::new(receiver))).unwrap();
    let response = client.send_request(request).await.unwrap();
    (sender, response)
}

async fn say(lines: &Lines, text: &str) {
    lines.send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))).await.unwrap();
}

async fn line(body: &mut Incoming) -> Value {
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    serde_json::from_slice(&frame).unwrap()
}

#[tokio::test]
async fn both_sides_may_talk_in_turns() {
    let (gateway, _descriptors) = chatting("Streams").await;
    let (lines, response) = open(&gateway, "/v1/chat", &[NDJSON, ("accept", "application/x-ndjson")]).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for text in ["a", "b", "c"] {
        say(&lines, &format!("{{\"text\": \"{text}\"}}\n")).await;
        assert_eq!(line(&mut body).await["text"], text);
    }
    drop(lines);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
    let (lines, response) = open(&gateway, "/v1/chat", &[NDJSON, ("accept", "application/x-ndjson")]).await;
    let mut body = response.into_body();
    say(&lines, "{}\n").await;
    assert_eq!(line(&mut body).await["text"], "");
    say(&lines, "{\"txt\": 1}\n").await;
    let problem = line(&mut body).await;
    assert_eq!(problem["error"]["errors"][0]["field"], "[1].txt", "{problem}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_event_stream_says_when_it_is_over() {
    let (gateway, _descriptors) = chatting("Streams").await;
    let answer = gateway.send("POST", "/v1/chat", &[JSON, ("accept", "text/event-stream")], "[{}]").await;
    let (event, end) = answer.body.split_once("\n\n").unwrap();
    assert!(event.starts_with("data: {"), "{}", answer.body);
    assert_eq!(end, "event: end\ndata: {}\n\n");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let (messages, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let library = Library::start(move |_| Answer::Stream(receiver.lock().unwrap().take().unwrap())).await;
    let descriptors = descriptors_file();
    let config = format!(
        "upstreams:\n  library: {{ endpoints: ['{}'], protocol: grpc, descriptors: '{}' }}\n\
         routes:\n  - {{ grpc: library.v1.Library, upstream: library }}\n",
        library.address,
        descriptors.display(),
    );
    let gateway = Running::start(&config).await;
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/books:watch").header("host", "gateway.test").body(String::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    connection.abort();
    drop((response, client));
    let book = || Ok(crate::library::message("Book", json!({"id": "1"})));
    eventually("the service notices", Duration::from_secs(30), || async {
        messages.send(book()).await.is_err().then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn bytes_of_any_type_pass_as_they_are() {
    let library = Library::start(|call| match call.path.rsplit('/').next().unwrap() {
        "GetResource" => Answer::Raw(Bytes::from_static(b"\x0a\x08text/csv\x12\x04a,\xff\n")),
        "Wrapped" => Answer::Raw(Bytes::from_static(b"\x0a\x011\x12\x0e\x0a\x08text/csv\x12\x02,,")),
        _ => Answer::Raw(Bytes::new()),
    })
    .await;
    let (gateway, _descriptors) = serving(&library, "ResourceService", "").await;
    let answer = gateway.send("PUT", "/v1/resource", &[("content-type", "text/csv")], "a,b").await;
    assert_eq!(answer.status, 204);
    assert_eq!(library.call().json(), json!({"contentType": "text/csv", "data": "YSxi"}));
    let answer = gateway.send("GET", "/v1/wrapped/1", &[], "").await;
    assert_eq!((answer.header("content-type").as_str(), answer.body.as_str()), ("text/csv", ",,"));
    let path = "/v1/resources/1";
    let raw = b"POST /v1/resources/1 HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\ncontent-length: 3\r\nconnection: close\r\n\r\n\x89\xff\n";
    let answer = gateway.raw(raw).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/csv"), "{path}: {answer}");
    let asked = library.calls().last().unwrap().json();
    assert_eq!(asked, json!({"requestId": "1", "httpBody": {"contentType": "image/png", "data": "if8K"}}));
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_of_bytes_passes_both_ways() {
    let (gateway, _descriptors) = chatting("CaldavService").await;
    let calendar = ("content-type", "text/calendar");
    let answer = gateway.send("POST", "/v1/calendar", &[calendar], "BEGIN:VCALENDAR").await;
    assert_eq!((answer.header("content-type").as_str(), answer.body.as_str()), ("text/calendar", "BEGIN:VCALENDAR"));
    gateway.stop().await;
}
