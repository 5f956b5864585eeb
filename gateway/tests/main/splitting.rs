//! One route and several upstreams: shares by weight, copies, and what is changed on the way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use testkit::eventually;

use crate::running::{Answer, Running, echo, upstream};

/// An upstream that says its name.
async fn named(name: &'static str) -> SocketAddr {
    upstream(move |_| async move { Response::new(Full::from(name)) }).await
}

/// An upstream that notes what it was sent.
async fn noting() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<(http::request::Parts, Bytes)>) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let address = upstream(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            _ = sender.send((head, body));
            Response::new(Full::from("nobody reads this"))
        }
    })
    .await;
    (address, receiver)
}

fn told(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[tokio::test]
async fn a_canary_gets_its_share_and_keeps_who_it_has() {
    let (old, new) = (named("old").await, named("new").await);
    let gateway = Running::start(&format!(
        "
upstreams:
  old: {{ endpoints: ['{old}'] }}
  new: {{ endpoints: ['{new}'] }}
routes:
  - match: {{ path: /chance }}
    proxy: {{ weights: [{{ upstream: old, weight: 50 }}, {{ upstream: new, weight: 50 }}] }}
  - match: {{ path: /kept }}
    proxy: {{ weights: [{{ upstream: old, weight: 50 }}, {{ upstream: new, weight: 50 }}], sticky: 'cookie:user' }}
  - match: {{ path: /parked }}
    proxy: {{ weights: [{{ upstream: old, weight: 1 }}, {{ upstream: new, weight: 0 }}] }}
"
    ))
    .await;
    let mut connection = crate::running::Connection::open(gateway.address).await;
    let mut new = 0;
    for number in 0..60 {
        let chance = connection.send("GET", "/chance", &[], "").await.body;
        new += usize::from(chance == "new");
        assert_eq!(connection.send("GET", "/parked", &[], "").await.body, "old");
        let cookie = format!("a=b; user={number}");
        let first = connection.send("GET", "/kept", &[("cookie", &cookie)], "").await.body;
        assert_eq!(connection.send("GET", "/kept", &[("cookie", &cookie)], "").await.body, first);
    }
    // All of 60 tosses alike: once in 10^17 runs.
    assert!((1..60).contains(&new), "{new}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_copy_goes_to_another_upstream_and_its_answer_to_nobody() {
    let (shadow, mut copies) = noting().await;
    let gateway = Running::start(&format!(
        "
upstreams:
  echo: {{ endpoints: ['{}'] }}
  shadow: {{ endpoints: ['{shadow}'] }}
routes:
  - match: {{ path: '/a/{{rest=**}}' }}
    proxy: {{ upstream: echo, rewrite: {{ prefix: /b }}, mirror: {{ upstream: shadow }} }}
",
        echo().await
    ))
    .await;
    let answer = gateway.send("POST", "/a/1?x", &[("x-own", "1")], "the body").await;
    assert_eq!(told(&answer)["body"], "the body");
    assert_eq!(told(&answer)["headers"].get("turnpike-mirrored"), None);
    let (head, body) = tokio::time::timeout(Duration::from_secs(20), copies.recv()).await.unwrap().unwrap();
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str(), &body[..]), ("POST", "/b/1?x", &b"the body"[..]));
    assert_eq!(
        (&head.headers["x-own"], &head.headers["turnpike-mirrored"]),
        (&"1".parse().unwrap(), &"true".parse().unwrap())
    );
    assert_eq!(head.headers["x-request-id"], answer.headers["x-request-id"]);
    // Too large to be copied: it passes all the same, and only the next is copied.
    let large = "x".repeat(64 * 1024 + 1);
    let answer = gateway.send("PUT", "/a/2", &[], &large).await;
    assert_eq!(told(&answer)["body"].as_str().map(str::len), Some(large.len()));
    gateway.get("/a/3").await;
    let (head, _) = tokio::time::timeout(Duration::from_secs(20), copies.recv()).await.unwrap().unwrap();
    assert_eq!(head.uri, "/b/3");
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_hangs_or_is_gone_gets_copies_that_harm_nobody() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let hanging = upstream(move |_| {
        counted.fetch_add(1, Relaxed);
        std::future::pending()
    })
    .await;
    let gateway = Running::start(&format!(
        "
upstreams:
  echo: {{ endpoints: ['{echo}'] }}
  hanging: {{ endpoints: ['{hanging}'] }}
  gone: {{ endpoints: ['127.0.0.1:1'] }}
routes:
  - {{ match: {{ path: /hanging }}, proxy: {{ upstream: echo, mirror: {{ upstream: hanging }} }} }}
  - {{ match: {{ path: /gone }}, proxy: {{ upstream: echo, mirror: {{ upstream: gone, percent: 100 }} }} }}
",
        echo = echo().await
    ))
    .await;
    let mut connection = crate::running::Connection::open(gateway.address).await;
    // More than may be under way at once: the rest goes uncopied.
    for _ in 0..130 {
        assert_eq!(connection.send("GET", "/hanging", &[], "").await.status, 200);
        assert_eq!(connection.send("GET", "/gone", &[], "").await.status, 200);
    }
    let hundred = || async { (asked.load(Relaxed) >= 100).then_some(()) };
    eventually("a hundred copies are under way", Duration::from_secs(20), hundred).await;
    assert_eq!(asked.load(Relaxed), 100);
    gateway.shutdown.begin(Duration::from_millis(1));
}

#[tokio::test]
async fn host_query_and_header_are_changed_on_the_way() {
    let gateway = Running::start(&format!(
        "
upstreams:
  echo: {{ endpoints: ['{}'] }}
routes:
  - match: {{ path: '/a/{{id}}' }}
    request_headers: {{ set: {{ x-tenant: acme }}, add: {{ x-more: two }}, remove: [x-secret] }}
    response_headers: {{ set: {{ x-served-by: us }}, remove: [date] }}
    proxy:
      upstream: echo
      rewrite: {{ path: '/things/{{id}}', host: 'inner.test:81', query: {{ set: {{ v: '2' }}, remove: [key] }} }}
  - match: {{ path: /fixed }}
    response_headers: {{ add: {{ link: '</a>' }} }}
    respond: {{ status: 200, headers: {{ link: '</b>' }} }}
",
        echo().await
    ))
    .await;
    let headers = [("x-tenant", "other"), ("x-more", "one"), ("x-secret", "1")];
    let answer = gateway.send("GET", "/a/7%208?key=1&b=%2f", &headers, "").await;
    let told = told(&answer);
    assert_eq!(told["path"], "/things/7%208?b=%2f&v=2");
    assert_eq!(
        (&told["headers"]["host"], &told["headers"]["x-forwarded-host"]),
        (&"inner.test:81".into(), &"gateway.test".into())
    );
    assert_eq!((&told["headers"]["x-tenant"], told["headers"].get("x-secret")), (&"acme".into(), None));
    assert_eq!(answer.header("x-served-by"), "us");
    assert_eq!(gateway.get("/fixed").await.header("link"), "</b>, </a>");
    gateway.stop().await;
}

#[tokio::test]
async fn clients_are_sent_to_https_and_to_other_hosts() {
    let gateway = Running::start(
        "
routes:
  - { match: { path: '/{rest=**}' }, redirect: { https: true, status: 301 } }
  - { match: { path: '/{rest=**}', host: old.test }, redirect: { host: new.test, path: '/new/{rest}' } }
",
    )
    .await;
    let answer = gateway.get("/a//b?x=1").await;
    assert_eq!((answer.status.as_u16(), answer.header("location").as_str()), (301, "https://gateway.test/a/b?x=1"));
    let answer = gateway.raw(b"GET /a HTTP/1.1\r\nhost: OLD.test\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("//new.test/new/a\r\n"), "{answer}");
    gateway.stop().await;
}
