//! Bodies in codings, out and in.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use gateway::Body;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    proxy::serve,
    running::{Running, echo, passing_on},
    session::{GOOD, authenticator},
};

/// An answer whose body is bytes.
struct Coded {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Coded {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body out of the coding that the header names.
    fn read(&self) -> String {
        let mut text = String::new();
        match self.header("content-encoding") {
            "gzip" => _ = MultiGzDecoder::new(&*self.body).read_to_string(&mut text).unwrap(),
            "br" => _ = brotli::Decompressor::new(&*self.body, 4096).read_to_string(&mut text).unwrap(),
            "zstd" => text = String::from_utf8(zstd::decode_all(&*self.body).unwrap()).unwrap(),
            "" => text = String::from_utf8(self.body.to_vec()).unwrap(),
            other => panic!("{other}"),
        }
        text
    }
}

async fn ask(gateway: &Running, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Coded {
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "gateway.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    Coded { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn get(gateway: &Running, path: &str, accept: &str) -> Coded {
    ask(gateway, "GET", path, &[("accept-encoding", accept)], Vec::new()).await
}

const LONG: usize = 200_000;

/// An upstream whose paths are what it answers.
async fn upstream() -> std::net::SocketAddr {
    serve(|request| async move {
        let path = request.uri().path().to_owned();
        let sent = |name: &str| request.headers().get(name).cloned().unwrap_or(HeaderValue::from_static("none"));
        let text = "0123456789 and so on; ".repeat(LONG / 22);
        let mut response = Response::new(Body::from(if path == "/small" { "small".to_owned() } else { text }));
        let headers = response.headers_mut();
        headers.insert("x-if-match", sent("if-match"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let mut field = |name: &'static str, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        match path.as_str() {
            "/plain" => {
                field("etag", "\"7\"");
                field("accept-ranges", "bytes");
                field("vary", "accept");
            }
            "/image" => field("content-type", "image/png"),
            "/events" => field("content-type", "text/event-stream"),
            "/fixed" => field("cache-control", "public, no-transform"),
            "/coded" => field("content-encoding", "zstd"),
            "/digest" => field("content-digest", "sha-256=:AAAA:"),
            "/login" => field("set-cookie", "__Host-session=secret; Path=/"),
            "/part" => {
                field("content-range", "bytes 0-1/3");
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            _ => {}
        }
        response
    })
    .await
}

#[tokio::test]
async fn an_answer_goes_out_in_the_coding_its_client_wants() {
    let gateway = Running::start(&passing_on(upstream().await)).await;
    let plain = ask(&gateway, "GET", "/plain", &[], Vec::new()).await;
    assert_eq!((plain.header("content-encoding"), plain.header("etag")), ("", "\"7\""));
    assert!(plain.header("content-length").parse::<usize>().unwrap() > LONG - 100);
    let vary: Vec<_> = plain.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["accept", "accept-encoding"], "a cache must know also of this one");
    for (accept, coding) in
        [("gzip, deflate, br, zstd", "br"), ("gzip, zstd", "zstd"), ("gzip", "gzip"), ("br;q=0.1, gzip;q=0.5", "gzip")]
    {
        let answer = get(&gateway, "/plain", accept).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (200, coding));
        assert_eq!((answer.header("content-length"), answer.header("accept-ranges")), ("", ""));
        assert_eq!(answer.header("etag"), "W/\"7\"");
        assert!(answer.body.len() < LONG / 20);
        assert_eq!(answer.read(), plain.read());
        let head = ask(&gateway, "HEAD", "/plain", &[("accept-encoding", accept)], Vec::new()).await;
        for name in ["content-encoding", "content-length", "etag", "vary"] {
            assert_eq!(head.header(name), answer.header(name), "HEAD {name}");
        }
        assert!(head.body.is_empty());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_must_not_be_changed_or_would_gain_nothing_goes_out_as_it_came() {
    let gateway = Running::start(&passing_on(upstream().await)).await;
    for path in ["/small", "/image", "/events", "/fixed", "/digest", "/login", "/part"] {
        let answer = get(&gateway, path, "gzip").await;
        assert_eq!(answer.header("content-encoding"), "", "{path}");
    }
    assert_eq!(get(&gateway, "/coded", "gzip").await.header("content-encoding"), "zstd");
    for accept in ["identity", "deflate", "gzip;q=0", "gzip;q=0.5, identity"] {
        let answer = get(&gateway, "/plain", accept).await;
        assert_eq!((answer.header("content-encoding"), answer.header("etag")), ("", "\"7\""), "{accept}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_takes_nothing_plain_gets_even_little_coded_and_who_takes_nothing_at_all_is_refused() {
    let gateway = Running::start(&passing_on(upstream().await)).await;
    let small = get(&gateway, "/small", "gzip, identity;q=0").await;
    assert_eq!((small.header("content-encoding"), small.read().as_str()), ("gzip", "small"));
    for accept in ["identity;q=0", "deflate, *;q=0"] {
        let refused = get(&gateway, "/plain", accept).await;
        assert_eq!((refused.status.as_u16(), refused.header("content-type")), (406, "application/problem+json"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_read_compressed_can_be_changed_by_its_tag() {
    let gateway = Running::start(&passing_on(upstream().await)).await;
    let tag = get(&gateway, "/plain", "br").await.header("etag").to_owned();
    let changed = ask(&gateway, "PUT", "/plain", &[("if-match", &tag)], Vec::new()).await;
    assert_eq!(changed.header("x-if-match"), "\"7\"");
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_is_not_held_back() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let web = serve(move |_| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        async {
            let mut response = Response::new(Body::new(StreamBody::new(ReceiverStream::new(receiver))));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/x-ndjson"));
            response
        }
    })
    .await;
    let gateway = Running::start(&passing_on(web)).await;
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "a").header("accept-encoding", "gzip");
    let response = client.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut body = response.into_body();
    let mut decoder = flate2::write::GzDecoder::new(Vec::new());
    for number in 0..5 {
        sender.send(Ok(Frame::data(format!("{{\"n\":{number}}}\n").into()))).await.unwrap();
        let expected: String = (0..=number).map(|number| format!("{{\"n\":{number}}}\n")).collect();
        // The next line is sent only when this one has arrived.
        let arrived = async {
            while decoder.get_ref().len() < expected.len() {
                let frame = body.frame().await.unwrap().unwrap();
                decoder.write_all(&frame.into_data().unwrap()).unwrap();
                decoder.flush().unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
        assert_eq!(decoder.get_ref(), expected.as_bytes());
    }
    drop(sender);
    while let Some(frame) = body.frame().await {
        decoder.write_all(&frame.unwrap().into_data().unwrap()).unwrap();
    }
    decoder.finish().unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{:x}\r\n{}\r\n", LONG, "x".repeat(LONG));
            _ = socket.read(&mut [0; 4096]).await;
            _ = socket.write_all((head.to_owned() + &chunk).as_bytes()).await;
        }
    });
    let gateway = Running::start(&passing_on(web)).await;
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "a").header("accept-encoding", "gzip");
    let response = client.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let collected = response.into_body().collect().await;
    assert!(collected.is_err(), "{:?}", collected.map(|whole| whole.to_bytes().len()));
    gateway.stop().await;
}

#[tokio::test]
async fn compression_can_be_turned_off_and_tuned() {
    let web = upstream().await;
    let gateway = Running::start(&format!("compression: false\n{}", passing_on(web))).await;
    let answer = get(&gateway, "/plain", "gzip").await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), ("", "accept"));
    assert_eq!(get(&gateway, "/plain", "identity;q=0").await.status, 200, "it is the upstream's affair");
    gateway.stop().await;
    let tuned = "compression: {minimum: 2B, algorithms: [gzip], levels: {gzip: 9}, types: ['image/*']}\n";
    let routes = format!("{}  - {{match: {{path: /own}}, compression: false, proxy: echo}}\n", passing_on(web));
    let gateway = Running::start(&format!("{tuned}{routes}")).await;
    assert_eq!(get(&gateway, "/image", "br, gzip").await.header("content-encoding"), "gzip");
    assert_eq!(get(&gateway, "/plain", "gzip").await.header("content-encoding"), "");
    assert_eq!(get(&gateway, "/own", "gzip").await.header("content-encoding"), "");
    gateway.stop().await;
}

fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 3).unwrap(),
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 18);
            encoder.write_all(bytes).unwrap();
            encoder.into_inner()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_body_that_the_gateway_reads_may_come_in_a_coding() {
    let customers = authenticator().await;
    let gateway = Running::start(&format!(
        "upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}}}\n\
         authentication: {{session: {{upstream: customers}}}}\n",
        customers.address
    ))
    .await;
    let send = async |coding: &str, body: Vec<u8>| {
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        ask(&gateway, "POST", "/session", &headers, body).await
    };
    for coding in ["gzip", "x-gzip", "zstd", "br", "BR"] {
        let name = coding.to_lowercase();
        let body = packed(name.trim_start_matches("x-"), GOOD.as_bytes());
        assert_eq!(send(coding, body.clone()).await.status, 201, "{coding}");
        let cut = send(coding, body[..body.len() - 3].to_vec()).await;
        assert_eq!((cut.status.as_u16(), cut.header("content-type")), (400, "application/problem+json"), "{coding}");
        // More than the route takes, then more than a hundred times what came.
        let large = (0..300_000u32).flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(send(coding, packed(name.trim_start_matches("x-"), &large)).await.status, 413, "{coding}");
        let bomb = send(coding, packed(name.trim_start_matches("x-"), &vec![b' '; 1 << 20])).await;
        assert_eq!(bomb.status, 413, "{coding}");
    }
    for coding in ["deflate", "gzip, br", "compress", ""] {
        let refused = send(coding, GOOD.as_bytes().to_vec()).await;
        assert_eq!((refused.status.as_u16(), refused.header("accept-encoding")), (415, "br, zstd, gzip"), "{coding}");
    }
    assert_eq!(send("identity", GOOD.as_bytes().to_vec()).await.status, 201);
    gateway.stop().await;
}

#[tokio::test]
async fn a_proxied_body_passes_as_it_is_unless_its_route_says_otherwise() {
    let routes = "- {match: {path: /raw}, proxy: echo}\n\
                  - {match: {path: /read}, proxy: echo, decompress: true, body_limit: 1KiB}\n";
    let config = format!("upstreams: {{echo: {{endpoints: ['{}']}}}}\nroutes:\n{routes}", echo().await);
    let gateway = Running::start(&config).await;
    let told = async |path: &str, text: &str| {
        let answer =
            ask(&gateway, "POST", path, &[("content-encoding", "gzip")], packed("gzip", text.as_bytes())).await;
        (answer.status.as_u16(), serde_json::from_str::<serde_json::Value>(&answer.read()).unwrap())
    };
    let (_, raw) = told("/raw", "hello").await;
    assert_eq!(raw["headers"]["content-encoding"], "gzip");
    assert_ne!(raw["body"], "hello");
    let (_, read) = told("/read", "hello").await;
    assert_eq!((&read["headers"]["content-encoding"], &read["body"]), (&serde_json::Value::Null, &"hello".into()));
    assert_eq!(told("/read", &"0123456789".repeat(103)).await.0, 413, "the limit is of what comes out");
    gateway.stop().await;
}
