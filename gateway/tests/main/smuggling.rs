//! Requests that two readers could take for different ones, byte by byte: each is refused with a problem document, the
//! connection is closed, and no service sees anything of it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::running::{Running, passing_on, upstream};

/// A gateway, and how many whole requests have reached the service behind.
struct Scene {
    gateway: Running,
    reached: Arc<AtomicUsize>,
}

/// Follows every request: whoever takes its end for another gives this to the service.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

impl Scene {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(sections: &str) -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reached);
        let service = upstream(move |request| {
            let counted = Arc::clone(&counted);
            async move {
                if request.into_body().collect().await.is_ok() {
                    counted.fetch_add(1, SeqCst);
                }
                Response::new(Full::new(Bytes::from_static(b"reached")))
            }
        })
        .await;
        Self { gateway: Running::start(&format!("{sections}{}", passing_on(service))).await, reached }
    }

    /// The bytes are refused with this status and type, and nothing else happens.
    async fn refuses(&self, request: &[u8], status: u16, kind: &str) {
        let shown = String::from_utf8_lossy(request).into_owned();
        let answer = self.gateway.raw(&[request, SMUGGLED.as_bytes()].concat()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown:?}: {answer:?}"));
        let field = |name: &str| {
            head.lines().skip(1).find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
        };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
        assert_eq!(field("content-type"), "application/problem+json", "{shown:?}");
        assert_eq!(field("connection"), "close", "{shown:?}");
        assert_eq!(field("x-content-type-options"), "nosniff", "{shown:?}");
        // All there is until the connection closes is this one document.
        let problem: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{shown:?}: {error}: {body}"));
        assert_eq!(problem["status"], status, "{shown:?}");
        assert_eq!(problem["type"], format!("https://turnpike.dev/problems/{kind}"), "{shown:?}: {problem}");
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
        assert_eq!(problem["request_id"], field("x-request-id"), "{shown:?}");
        assert_eq!(self.reached.load(SeqCst), 0, "{shown:?} reached the service");
    }

    async fn takes(&self, request: &str) {
        let before = self.reached.load(SeqCst);
        let answer = self.gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request:?}: {answer}");
        assert_eq!(self.reached.load(SeqCst), before + 1, "{request:?}");
    }
}

#[tokio::test]
async fn a_body_whose_end_is_not_certain_is_refused() {
    let scene = Scene::new().await;
    for (fields, status, kind) in [
        // Both at once, whichever comes first and whatever they say.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, "bad-request"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400, "bad-request"),
        ("Transfer-Encoding: chunked\r\nContent-Length: nonsense", 400, "bad-request"),
        ("Transfer-Encoding: identity\r\nContent-Length: 5", 400, "bad-request"),
        ("tRANSFER-eNCODING: CHUNKED\r\ncONTENT-lENGTH: 5", 400, "bad-request"),
        // More than one length.
        ("Content-Length: 5\r\nContent-Length: 5", 400, "bad-request"),
        ("Content-Length: 5\r\nContent-Length: 6", 400, "bad-request"),
        ("Content-Length: 5, 5", 400, "bad-request"),
        ("Content-Length: 5, 6", 400, "bad-request"),
        // No number.
        ("Content-Length: +5", 400, "bad-request"),
        ("Content-Length: -5", 400, "bad-request"),
        ("Content-Length: 0x5", 400, "bad-request"),
        ("Content-Length: 5 5", 400, "bad-request"),
        ("Content-Length: 5;", 400, "bad-request"),
        ("Content-Length: 5.0", 400, "bad-request"),
        ("Content-Length:", 400, "bad-request"),
        ("Content-Length: 18446744073709551616", 400, "bad-request"),
        ("Content-Length: 99999999999999999999999999", 400, "bad-request"),
        // Codings that are not chunked alone.
        ("Transfer-Encoding: gzip, chunked", 501, "unimplemented"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501, "unimplemented"),
        ("Transfer-Encoding: identity, chunked", 501, "unimplemented"),
        ("Transfer-Encoding: chunked, gzip", 400, "bad-request"),
        ("Transfer-Encoding: chunked, chunked", 400, "bad-request"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "bad-request"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, "bad-request"),
        ("Transfer-Encoding: xchunked", 400, "bad-request"),
        ("Transfer-Encoding: gzip", 400, "bad-request"),
        ("Transfer-Encoding: identity", 400, "bad-request"),
        ("Transfer-Encoding: \"chunked\"", 400, "bad-request"),
        ("Transfer-Encoding: chunked;q=1", 400, "bad-request"),
        ("Transfer-Encoding: , chunked", 400, "bad-request"),
        ("Transfer-Encoding: chunked,", 400, "bad-request"),
        ("Transfer-Encoding:", 400, "bad-request"),
        ("Transfer-Encoding: \x0bchunked", 400, "bad-request"),
        ("Transfer-Encoding\x0b: chunked", 400, "bad-request"),
        ("Transfer-Encoding : chunked", 400, "bad-request"),
        ("Content-Length : 5", 400, "bad-request"),
        (" Transfer-Encoding: chunked", 400, "bad-request"),
        ("X: y\r\n Transfer-Encoding: chunked", 400, "bad-request"),
        ("X: y\nTransfer-Encoding: chunked", 400, "bad-request"),
        ("X: y\rTransfer-Encoding: chunked", 400, "bad-request"),
        ("X: y\0\r\nTransfer-Encoding: chunked", 400, "bad-request"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
        scene.refuses(request.as_bytes(), status, kind).await;
    }
    scene
        .refuses(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request")
        .await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_not_well_formed_is_refused() {
    let scene = Scene::new().await;
    for (request, status, kind) in [
        // Lines.
        ("GET / HTTP/1.1\nHost: a\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bad-request"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        // The request line.
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET / b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03", 400, "bad-request"),
        ("GET / HTTP/1.1\0\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.11\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version-not-supported"),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version-not-supported"),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version-not-supported"),
        // The target.
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        // Fields.
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX[]: b\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\u{e9}: b\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[31m\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400, "bad-request"),
    ] {
        scene.refuses(request.as_bytes(), status, kind).await;
    }
    let method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(100));
    scene.refuses(method.as_bytes(), 501, "unimplemented").await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_for_what_is() {
    let scene = Scene::with("limits: {headers: 2KiB, header: 1KiB, header_count: 10, uri: 1KiB}\n").await;
    let long = |times| "x".repeat(times);
    for (request, status, kind) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(5000)), 414, "uri-too-long"),
        (format!("GET /{}", long(20_000)), 414, "uri-too-long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(1500)), 431, "headers-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long(100_000)), 431, "headers-too-large"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", format!("X: {}\r\n", long(500)).repeat(5)),
            431,
            "headers-too-large",
        ),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(11)), 431, "headers-too-large"),
    ] {
        scene.refuses(request.as_bytes(), status, kind).await;
    }
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_chunk_that_could_end_elsewhere_is_refused() {
    let scene = Scene::new().await;
    for body in [
        "\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\n folded: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        scene.refuses(request.as_bytes(), 400, "bad-request").await;
    }
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1000));
    let trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "x: y\r\n".repeat(100));
    for body in [extension, trailers] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        scene.refuses(request.as_bytes(), 400, "bad-request").await;
    }
    scene.gateway.stop().await;
}

#[tokio::test]
async fn what_only_the_gateway_may_say_is_not_said_behind_a_body() {
    let service = upstream(|request| async {
        let body = request.into_body().collect().await.unwrap();
        let mut names: Vec<_> = body.trailers().into_iter().flat_map(HeaderMap::keys).map(HeaderName::as_str).collect();
        names.sort_unstable();
        Response::new(Full::from(format!("trailers: {}.", names.join(" "))))
    })
    .await;
    let gateway = Running::start(&passing_on(service)).await;
    let forged = [
        "turnpike-principal",
        "turnpike_principal",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
        "x-api-key",
        "traceparent",
        "authorization",
        "cookie",
        "host",
        "x-sum",
    ];

    let lines: String = forged.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = gateway.raw(format!("{head}2\r\nhi\r\n0\r\n{lines}\r\n").as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\ntrailers: x-sum."), "{answer}");

    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let trailers: HeaderMap =
        forged.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
    let frames = [Frame::data(Bytes::from_static(b"hi")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
    let request = Request::post(format!("http://{}/", gateway.address)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "trailers: x-sum.");
    gateway.stop().await;
}

#[tokio::test]
async fn what_has_one_reading_only_is_taken() {
    let scene = Scene::new().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhOST:a\r\nX:\r\nY: \t z \t\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 005\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: Chunked\r\n\r\n05;a=\"b\"\r\nhello\r\n000\r\nX: y\r\n\r\n",
    ] {
        scene.takes(request).await;
    }
    scene.gateway.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_counted() {
    let scene = Scene::new().await;
    scene.refuses(b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, "bad-request").await;
    let text = telemetry::render();
    let counted = text.lines().find(|line| line.starts_with("turnpike_gateway_requests_total") && line.contains("4xx"));
    assert!(counted.is_some_and(|line| line.contains("route=\"none\"")), "{counted:?}");
    scene.gateway.stop().await;
}
