//! One contract for every error, in whatever the caller speaks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{
    running::{Running, echo},
    session::{GOOD, authenticator},
};

const ROUTES: &str = "rate_limit: {requests: 1, per: 1h, key: 'header:x-limited'}\n\
    routes:\n- {match: {path: /known, method: GET}, respond: {status: 200, body: ok}}\n\
    - {match: {path: /a.B/Limited}, respond: {status: 200}}\n";

/// Sends a request without a body by HTTP/2, as gRPC clients do.
async fn call(gateway: &Running, path: &str, headers: &[(&'static str, &'static str)]) -> Response<Incoming> {
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}{path}", gateway.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

async fn whole(response: Response<Incoming>) -> (HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    assert_eq!(head.status, 200);
    (head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_grpc_client_gets_a_status_and_nothing_else() {
    let gateway = Running::start(ROUTES).await;
    let kind = ("content-type", "application/grpc");
    let (headers, body) = whole(call(&gateway, "/a.B/Call", &[kind, ("te", "trailers")]).await).await;
    assert_eq!((&headers["grpc-status"], &headers["content-type"]), (&"12".parse().unwrap(), &kind.1.parse().unwrap()));
    assert!(headers.contains_key("grpc-status-details-bin") && headers.contains_key("x-request-id"));
    assert!(body.is_empty());
    let limited = [kind, ("x-limited", "1")];
    call(&gateway, "/a.B/Limited", &limited).await;
    let (headers, _) = whole(call(&gateway, "/a.B/Limited", &limited).await).await;
    assert_eq!(headers["grpc-status"], "8");
    assert!(headers.contains_key("retry-after"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_grpc_web_page_gets_trailers_in_the_body_and_may_read_them() {
    let gateway = Running::start(&format!("cors: {{origins: ['https://app.test']}}\n{ROUTES}")).await;
    let page = ("origin", "https://app.test");
    let (headers, binary) =
        whole(call(&gateway, "/a.B/Call", &[page, ("content-type", "application/grpc-web+proto")]).await).await;
    assert_eq!(headers["content-type"], "application/grpc-web+proto");
    assert_eq!(headers["access-control-allow-origin"], "https://app.test");
    let exposed = headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{exposed}");
    assert!(binary.starts_with(&[0x80]) && binary[5..].starts_with(b"grpc-status: 12\r\n"), "{binary:?}");
    let text = [page, ("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")];
    let (headers, text) = whole(call(&gateway, "/a.B/Call", &text).await).await;
    assert_eq!(headers["content-type"], "application/grpc-web-text+proto");
    assert!(STANDARD.decode(&text).unwrap()[5..].starts_with(b"grpc-status: 12\r\n"));
    gateway.stop().await;
}

#[tokio::test]
async fn whoever_speaks_no_grpc_gets_a_problem_document() {
    let gateway = Running::start(ROUTES).await;
    for accept in ["text/html,application/xhtml+xml,*/*;q=0.8", "image/png", "application/json", ""] {
        let answer = gateway.send("GET", "/nothing", &[("accept", accept)], "").await;
        assert_eq!(answer.status, 404, "{accept}");
        let problem = answer.problem();
        assert_eq!(problem["type"], "https://turnpike.dev/problems/not-found");
        assert_eq!((&problem["instance"], answer.header("cache-control").as_str()), (&"/nothing".into(), "no-store"));
    }
    let head = gateway.send("HEAD", "/nothing", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (404, ""));
    gateway.stop().await;
}

#[tokio::test]
async fn each_refusal_has_a_status_and_a_type_of_its_own() {
    let customers = authenticator().await;
    let gateway = Running::start(&format!(
        "upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}, web: {{endpoints: ['{}']}}}}\n\
         authentication: {{session: {{upstream: customers}}}}\nlimits: {{json_body: 1KiB}}\n{ROUTES}\
         - {{match: {{path: /mine, method: GET}}, authenticate: required, proxy: web}}\n",
        customers.address,
        echo().await,
    ))
    .await;
    let (long, json) = ("x".repeat(9 << 10), ("content-type", "application/json"));
    let long_uri = format!("/known?{long}");
    for (method, path, headers, body, status, kind) in [
        ("GET", "/a%00b", vec![], "", 400, "bad-request"),
        ("POST", "/session", vec![json], "{\"email\": 1}", 400, "invalid"),
        ("GET", "/mine", vec![], "", 401, "unauthenticated"),
        ("GET", "/nothing", vec![], "", 404, "not-found"),
        ("PUT", "/known", vec![], "", 405, "method-not-allowed"),
        ("POST", "/session", vec![json], long.as_str(), 413, "body-too-large"),
        ("GET", long_uri.as_str(), vec![], "", 414, "uri-too-long"),
        ("POST", "/session", vec![("content-type", "text/plain")], GOOD, 415, "unsupported-media-type"),
        ("GET", "/known", vec![("x-long", long.as_str())], "", 431, "headers-too-large"),
        ("GET", "/known", vec![("x-limited", "1")], "", 200, ""),
        ("GET", "/known", vec![("x-limited", "1")], "", 429, "rate-limited"),
    ] {
        let answer = gateway.send(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path:.20}: {answer:?}");
        if kind.is_empty() {
            continue;
        }
        let problem = answer.problem();
        assert_eq!(problem["type"], format!("https://turnpike.dev/problems/{kind}"));
        assert_eq!(problem["errors"].is_array(), kind == "invalid", "{problem}");
        match status {
            401 => assert!(!answer.header("www-authenticate").is_empty()),
            405 => assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS"),
            429 => {
                assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
                assert!(!answer.header("ratelimit").is_empty() && !answer.header("ratelimit-policy").is_empty());
            }
            _ => {}
        }
    }
    let options = gateway.send("OPTIONS", "/known", &[], "").await;
    assert_eq!((options.status.as_u16(), options.header("allow").as_str()), (204, "GET, HEAD, OPTIONS"));
    gateway.stop().await;
}
