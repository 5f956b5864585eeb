//! A proxied message arrives as it was sent, but for what is meant for one hop.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use upstream::{Body, Config, Protocol, Upstream};

use crate::service::{SAFE, Service, UNSAFE, client, config, get, post, text};

async fn describe(request: Request<Incoming>) -> Response<Body> {
    use http_body_util::BodyExt as _;
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut names: Vec<_> = head.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
    names.sort();
    let text = format!("{} {} {} {}", head.method, head.uri, names.join(","), String::from_utf8_lossy(&body));
    Response::builder().header("connection", "x-hop").header("x-hop", "1").body(Body::from(text)).unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    let service = Service::http1(describe).await;
    let client = client(Protocol::Http1, &[service.address]);
    let mut request = post("/orders?dry=1", "order");
    request.headers_mut().insert("connection", "keep-alive, x-mine".parse().unwrap());
    request.headers_mut().insert("x-mine", "1".parse().unwrap());
    request.headers_mut().insert("x-kept", "1".parse().unwrap());
    let response = client.send(request, UNSAFE).await.unwrap();
    assert!(!response.headers().contains_key("x-hop") && !response.headers().contains_key("connection"));
    assert_eq!(text(response).await, "POST /orders?dry=1 content-length=5,host=shop.example,x-kept=1 order");
}

#[tokio::test]
async fn the_configured_host_replaces_the_incoming_one() {
    let service = Service::http1(describe).await;
    let config = Config { host: Some("inner.example".to_owned()), ..config(Protocol::Http1, &[service.address]) };
    let client = Upstream::new(config).unwrap().client();
    assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "GET / host=inner.example ");
}

#[tokio::test]
async fn a_websockets_bytes_pass() {
    let service = Service::http1(|mut request: Request<Incoming>| async move {
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["connection"], "upgrade");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 4];
            while socket.read_exact(&mut bytes).await.is_ok() {
                bytes.reverse();
                socket.write_all(&bytes).await.unwrap();
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let client = client(Protocol::Http1, &[service.address]);
    let mut request = get("/ws");
    request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let mut response = client.send(request, SAFE).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let upgrade = response.extensions_mut().remove::<http1::upgrade::OnUpgrade>().unwrap();
    let mut socket = upgrade.await.unwrap();
    for word in ["ping", "pong"] {
        socket.write_all(word.as_bytes()).await.unwrap();
        let mut bytes = [0; 4];
        socket.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes.iter().rev().copied().collect::<Vec<_>>(), word.as_bytes());
    }
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_framing_and_trailers() {
    use http_body_util::BodyExt as _;
    let service = Service::http2(|request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        crate::service::grpc(&[b"answer"], &[("grpc-status", "0"), ("x-more", "1")])
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let mut request = post("/a.B/C", bytes::Bytes::from_static(&[0, 0, 0, 0, 0]));
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let collected = client.send(request, UNSAFE).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-more"], "1");
    assert_eq!(&collected.to_bytes()[..], b"\0\0\0\0\x06answer");
}
