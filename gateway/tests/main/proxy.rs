//! Requests passed on, over real connections on both sides.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::{
    Body,
    action::proxy::{Config, Proxy},
    context::Authenticated,
    worker::{UpstreamId, Worker},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use upstream::{Protocol, Upstream};

use crate::{
    library::{self, Library},
    running::{Running, passing_on},
};

/// Serves HTTP/1.1 and HTTP/2 by a function.
pub async fn serve<F, R>(handler: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// A gateway whose only route proxies to one upstream.
async fn gateway(upstream: SocketAddr, protocol: Protocol, config: serde_json::Value) -> SocketAddr {
    let config: Config = serde_json::from_value(config).unwrap();
    let action = Proxy::new(&config, UpstreamId(0), None, "/api/{rest=**}");
    let action = Arc::new(action.unwrap_or_else(|errors| panic!("{errors:?}")));
    let config = upstream::Config::new("web", vec![upstream.to_string()], protocol);
    let worker = Worker { clients: vec![Upstream::new(config).unwrap().client()], ..Worker::default() };
    serve(move |request| {
        let (action, worker) = (Arc::clone(&action), worker.clone());
        async move {
            let mut context = library::context(&[("rest", "a")]);
            context.deadline = std::time::Instant::now() + Duration::from_secs(2);
            if request.headers().contains_key("authorization") {
                let token = HeaderValue::from_static("signed");
                context.principal = Some(Arc::new(Authenticated { principal: principal::Principal::default(), token }));
            }
            action.call(&worker, request.map(Body::from), &context).await.unwrap_or_else(|error| {
                let mut response = Response::new(Body::from(format!("{:?}", error.kind)));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            })
        }
    })
    .await
}

async fn send(request: Request<Full<Bytes>>) -> Response<Incoming> {
    Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap()
}

fn get(gateway: SocketAddr, path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://{gateway}{path}"))
}

fn nothing() -> Full<Bytes> {
    Full::default()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

type Seen = Arc<Mutex<Option<(String, HeaderMap)>>>;

/// An upstream that notes the head of the last request and answers its body.
async fn echo() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let address = serve(move |request| {
        let (head, body) = request.into_parts();
        let target = format!("{} {}", head.method, head.uri.path_and_query().unwrap());
        *noted.lock().unwrap() = Some((target, head.headers));
        async move {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert("x-upstream", HeaderValue::from_static("1"));
            response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
            response
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn a_request_and_its_answer_pass_through() {
    let (upstream, seen) = echo().await;
    let gateway = gateway(upstream, Protocol::Http1, json!("web")).await;
    let body = Bytes::from("x".repeat(300_000));
    let response = send(get(gateway, "/api/a?b=c").method("PUT").body(Full::new(body.clone())).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-upstream"], "1");
    assert!(!response.headers().contains_key("keep-alive"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    assert_eq!(seen.lock().unwrap().as_ref().unwrap().0, "PUT /api/a?b=c");
}

#[tokio::test]
async fn the_gateway_says_who_the_client_is_and_how_it_came() {
    let (upstream, seen) = echo().await;
    let gateway = gateway(upstream, Protocol::Http1, json!("web")).await;
    let forged = |request: http::request::Builder| {
        request
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil.example")
            .header("turnpike-principal", "forged")
            .header("x-request-id", "forged")
    };
    send(forged(get(gateway, "/api/a")).body(nothing()).unwrap()).await;
    let headers = seen.lock().unwrap().take().unwrap().1;
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], gateway.to_string());
    assert_eq!(headers["host"], gateway.to_string());
    assert_eq!(headers["x-request-id"], "request-1");
    assert!(headers.contains_key("traceparent"));
    assert!(!headers.contains_key("turnpike-principal"));
    send(forged(get(gateway, "/api/a")).header("authorization", "Bearer x").body(nothing()).unwrap()).await;
    assert_eq!(seen.lock().unwrap().take().unwrap().1["turnpike-principal"], "signed");
}

#[tokio::test]
async fn a_client_can_not_have_the_gateways_own_fields_dropped() {
    let (upstream, seen) = echo().await;
    let gateway = gateway(upstream, Protocol::Http1, json!("web")).await;
    let request = get(gateway, "/api/a")
        .header("authorization", "Bearer x")
        .header("connection", "keep-alive, turnpike-principal, x-private")
        .header("connection", "x-forwarded-for, Host")
        .header("x-private", "1")
        .header("te", "gzip")
        .header("expect", "nothing");
    send(request.body(nothing()).unwrap()).await;
    let headers = seen.lock().unwrap().take().unwrap().1;
    assert_eq!(headers["turnpike-principal"], "signed");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["host"], gateway.to_string(), "which the route was found by");
    assert_eq!(headers["x-forwarded-host"], gateway.to_string());
    for absent in ["x-private", "connection", "te", "expect"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn an_upgrade_to_another_protocol_is_not_passed_on() {
    let (upstream, seen) = echo().await;
    let gateway = gateway(upstream, Protocol::Http1, json!("web")).await;
    let request = get(gateway, "/api/a").header("connection", "upgrade, http2-settings").header("upgrade", "h2c");
    let response = send(request.header("http2-settings", "AAMAAABk").body(nothing()).unwrap()).await;
    assert_eq!(response.status(), 200);
    let headers = seen.lock().unwrap().take().unwrap().1;
    for absent in ["upgrade", "http2-settings", "connection"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn the_path_is_rewritten_and_the_query_kept() {
    let (upstream, seen) = echo().await;
    let prefix = gateway(upstream, Protocol::Http1, json!({"upstream": "web", "rewrite": {"prefix": "/v1"}})).await;
    send(get(prefix, "/api/a%20b?c=d").body(nothing()).unwrap()).await;
    assert_eq!(seen.lock().unwrap().take().unwrap().0, "GET /v1/a%20b?c=d");
    let path = gateway(upstream, Protocol::Http1, json!({"upstream": "web", "rewrite": {"path": "/x/{rest}"}})).await;
    send(get(path, "/api/a?c=d").body(nothing()).unwrap()).await;
    assert_eq!(seen.lock().unwrap().take().unwrap().0, "GET /x/a?c=d");
}

#[tokio::test]
async fn events_pass_as_they_come_and_silence_ends_them() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let upstream = serve(move |_| {
        let frames = tokio_stream::wrappers::ReceiverStream::new(receiver.lock().unwrap().take().unwrap());
        async move {
            let mut response = Response::new(Body::new(StreamBody::new(frames)));
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
    })
    .await;
    let config = json!({"upstream": "web", "idle_timeout": "500ms"});
    let gateway = gateway(upstream, Protocol::Http1, config).await;
    let mut body = send(get(gateway, "/api/a").body(nothing()).unwrap()).await.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        sender.send(Ok(Frame::data(Bytes::from_static(event.as_bytes())))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.unwrap().unwrap();
    assert!(end.is_err(), "a stream that breaks off must not look complete");
}

#[tokio::test]
async fn a_silent_upstream_is_a_timeout_and_an_absent_one_unavailable() {
    let silent = serve(|_| std::future::pending()).await;
    let response = send(get(gateway(silent, Protocol::Http1, json!("web")).await, "/api/a").body(nothing()).unwrap());
    assert_eq!(text(response.await).await, "Timeout");
    let absent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let response = send(get(gateway(absent, Protocol::Http1, json!("web")).await, "/api/a").body(nothing()).unwrap());
    assert_eq!(text(response.await).await, "Unavailable");
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let library = Library::start(|call| library::Answer::Raw(call.message.clone())).await;
    let gateway = gateway(library.address, Protocol::Grpc, json!("web")).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = get(gateway, "/library.v1.Library/GetBook")
        .method("POST")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\x03\x0a\x011")))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), &b"\0\0\0\0\x03\x0a\x011"[..]);
    assert_eq!(library.call().json(), json!({"id": "1"}));
}

/// A WebSocket server that sends every message back.
pub async fn websocket() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_both_ways_until_one_side_closes() {
    let gateway = Running::start(&passing_on(websocket().await)).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut socket, response) =
        tokio_tungstenite::client_async(format!("ws://{}/ws", gateway.address), stream).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    socket.close(None).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = socket.next().await {} });
    end.await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_silent_websocket_is_closed() {
    let config = passing_on(websocket().await).replace("proxy: echo", "proxy: {upstream: echo, idle_timeout: 300ms}");
    let gateway = Running::start(&config).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async(format!("ws://{}/ws", gateway.address), stream).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = socket.next().await {} });
    end.await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_websocket_gets_the_services_answer() {
    let (upstream, _) = echo().await;
    let gateway = gateway(upstream, Protocol::Http1, json!("web")).await;
    let stream = TcpStream::connect(gateway).await.unwrap();
    let refused = tokio_tungstenite::client_async(format!("ws://{gateway}/api/ws"), stream).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 200);
}
