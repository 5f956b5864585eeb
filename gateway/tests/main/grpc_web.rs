//! gRPC-Web in front of a service that speaks gRPC alone, frame by frame.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    library::{Answer, Library, framed, message, pool},
    running::Running,
};

async fn start() -> (Library, Running) {
    let library = Library::start(|call| match call.path.rsplit('/').next().unwrap() {
        "GetBook" => Answer::Message(message("Book", json!({"id": "1", "title": call.json()["id"]}))),
        "Watch" => {
            let (sender, receiver) = tokio::sync::mpsc::channel(3);
            for id in ["1", "2"] {
                sender.try_send(Ok(message("Book", json!({"id": id})))).unwrap();
            }
            sender.try_send(Err((14, "moving".into()))).unwrap();
            Answer::Stream(receiver)
        }
        _ => Answer::Status(5, "no%20book", vec![8, 5]),
    })
    .await;
    let config = format!(
        "cors: {{ origins: ['https://app.example'], headers: [content-type, x-grpc-web] }}\n\
         upstreams:\n  library: {{ endpoints: ['{}'], protocol: grpc }}\n\
         routes:\n  - {{ match: {{ path: '/library.v1.Library/{{method}}' }}, proxy: library }}\n",
        library.address,
    );
    let gateway = Running::start(&config).await;
    (library, gateway)
}

fn asked(id: &str) -> Bytes {
    framed(&message("GetBookRequest", json!({"id": id})).encode_to_vec())
}

/// Calls over HTTP/1.1 or HTTP/2, as a browser may.
async fn call(gateway: &Running, h2: bool, method: &str, headers: &[(&str, &str)], body: Bytes) -> (HeaderMap, Bytes) {
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let uri = format!("{}/library.v1.Library/{method}", if h2 { "http://gateway.test" } else { "" });
    let mut request = Request::post(uri);
    if !h2 {
        request = request.header("host", "gateway.test");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    let response = if h2 {
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    };
    assert_eq!(response.status(), 200);
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    assert!(body.trailers().is_none(), "a browser would not see them");
    (head.headers, body.to_bytes())
}

/// Frames with their flags.
fn frames(mut body: Bytes) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        frames.push((body[0], body.slice(5..5 + length)));
        body = body.slice(5 + length..);
    }
    frames
}

fn book(message: &Bytes) -> Value {
    let book = pool().get_message_by_name("library.v1.Book").unwrap();
    serde_json::to_value(DynamicMessage::decode(book, message.clone()).unwrap()).unwrap()
}

fn trailers(frame: &(u8, Bytes)) -> String {
    assert_eq!(frame.0, 0x80);
    String::from_utf8(frame.1.to_vec()).unwrap()
}

/// Pieces that may each be padded.
fn from_base64(text: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    for group in text.chunks(4) {
        bytes.extend(STANDARD.decode(group).unwrap());
    }
    bytes.into()
}

const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
const TEXT: (&str, &str) = ("content-type", "application/grpc-web-text+proto");

#[tokio::test]
async fn a_call_and_its_trailers_come_through() {
    let (library, gateway) = start().await;
    for h2 in [false, true] {
        let headers = [WEB, ("x-grpc-web", "1"), ("origin", "https://app.example"), ("grpc-timeout", "5S")];
        let (head, body) = call(&gateway, h2, "GetBook", &headers, asked("x")).await;
        assert_eq!(head["content-type"], "application/grpc-web+proto");
        assert_eq!(head["access-control-allow-origin"], "https://app.example");
        let frames = frames(body);
        assert_eq!(book(&frames[0].1), json!({"id": "1", "title": "x"}));
        assert_eq!((frames.len(), frames[0].0), (2, 0));
        assert!(trailers(&frames[1]).contains("grpc-status: 0\r\n"), "{frames:?}");
        let call = library.calls().last().unwrap().clone();
        assert_eq!(
            (&call.metadata["content-type"], &call.metadata["te"]),
            (&"application/grpc+proto".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert!(!call.metadata.contains_key("x-grpc-web"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn text_is_base64_both_ways_in_pieces() {
    let (_library, gateway) = start().await;
    let whole = asked("x");
    let (first, second) = whole.split_at(4);
    let pieces = [STANDARD.encode(first), STANDARD.encode(second)].concat();
    for body in [STANDARD.encode(&whole), pieces] {
        let (head, body) = call(&gateway, false, "GetBook", &[TEXT], body.into()).await;
        assert_eq!(head["content-type"], "application/grpc-web-text+proto");
        let frames = frames(from_base64(&body));
        assert_eq!(book(&frames[0].1)["title"], "x");
        assert!(trailers(&frames[1]).contains("grpc-status: 0\r\n"));
    }
    // Bytes there, text back.
    let headers = [WEB, ("accept", "application/grpc-web-text")];
    let (head, body) = call(&gateway, false, "GetBook", &headers, whole).await;
    assert_eq!(head["content-type"], "application/grpc-web-text+proto");
    assert_eq!(frames(from_base64(&body)).len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_status() {
    let (_library, gateway) = start().await;
    let (_, body) = call(&gateway, true, "Watch", &[WEB], framed(b"")).await;
    let frames = frames(body);
    assert_eq!([&book(&frames[0].1)["id"], &book(&frames[1].1)["id"]], ["1", "2"]);
    let trailers = trailers(&frames[2]);
    assert!(trailers.contains("grpc-status: 14\r\n") && trailers.contains("grpc-message: moving\r\n"), "{trailers}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_service_or_of_the_gateway_is_a_frame_of_trailers() {
    let (_library, gateway) = start().await;
    let (head, body) = call(&gateway, false, "Nothing", &[WEB], framed(b"")).await;
    assert!(!head.contains_key("grpc-status"));
    let said = trailers(&frames(body)[0]);
    assert!(said.contains("grpc-status: 5\r\n") && said.contains("grpc-message: no%20book\r\n"), "{said}");
    assert!(said.contains("grpc-status-details-bin: CAU\r\n"), "{said}");
    let (_, body) = call(&gateway, false, "GetBook", &[TEXT], Bytes::from_static(b"AAA")).await;
    let said = trailers(&frames(from_base64(&body))[0]);
    assert!(said.contains("grpc-status: 3\r\n"), "{said}");
    gateway.stop().await;
}
