//! Which endpoint gets a request, and what a client reads where none does.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};

use crate::running::{Running, upstream};

/// Answers with its name.
async fn named(name: &'static str) -> SocketAddr {
    upstream(move |_| async move { Response::new(Full::from(name)) }).await
}

async fn gateway(endpoints: &[SocketAddr], more: &str) -> Running {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("'{address}'")).collect();
    let endpoints = endpoints.join(", ");
    Running::start(&format!(
        "upstreams: {{web: {{endpoints: [{endpoints}], {more}}}}}\n\
         routes: [{{match: {{path: '/{{rest=**}}'}}, proxy: web}}]\n"
    ))
    .await
}

#[tokio::test]
async fn a_caller_stays_with_one_endpoint_from_every_core_and_gateway() {
    let addresses = [named("one").await, named("two").await, named("three").await];
    let ring = "balance: {ring_hash: 'header:x-user'}";
    let gateways = [gateway(&addresses, ring).await, gateway(&addresses, ring).await];
    let mut places = BTreeSet::new();
    for user in 0..30 {
        let user = format!("user-{user}");
        let headers = [("x-user", user.as_str())];
        let place = gateways[0].send("GET", "/", &headers, "").await.body;
        for round in 0..4 {
            assert_eq!(gateways[round % 2].send("GET", "/", &headers, "").await.body, place, "{user}");
        }
        places.insert(place);
    }
    assert_eq!(places.len(), 3, "all of them have some");
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test]
async fn who_is_not_let_through_by_the_breaker_is_told_when_to_come_back() {
    let sick = upstream(|_| async {
        Response::builder().status(503).header("retry-after", "99").body(Full::<Bytes>::default()).unwrap()
    })
    .await;
    let gateway = gateway(&[sick], "breaker: {requests: 3}").await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.header("retry-after"), "99", "the service's own answer");
    }
    let answer = gateway.get("/").await;
    let problem = answer.problem();
    assert_eq!(
        (problem["status"].as_u64(), &problem["type"]),
        (Some(503), &"https://turnpike.dev/problems/breaker-open".into())
    );
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&seconds));
    let shown = gateway.ops("/upstreams").await;
    assert_eq!(shown["states"]["web"]["breaker"]["state"], "open");
    assert_eq!(shown["states"]["web"]["panic"], false);
    assert_eq!(shown["upstreams"]["web"][0]["state"], "well");
    gateway.stop().await;
}

#[tokio::test]
async fn a_small_body_is_sent_again_with_its_request_where_that_does_no_harm() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let moody = upstream(move |request| {
        let status = if counted.fetch_add(1, Relaxed).is_multiple_of(2) { 503 } else { 200 };
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::builder().status(status).body(Full::from(body)).unwrap()
        }
    })
    .await;
    let gateway = gateway(&[moody], "retry: {on: [503]}").await;
    let put = gateway.send("PUT", "/", &[], "a word").await;
    assert_eq!((put.status.as_u16(), put.body.as_str(), asked.load(Relaxed)), (200, "a word", 2));
    let post = gateway.send("POST", "/", &[], "a word").await;
    assert_eq!((post.status.as_u16(), asked.load(Relaxed)), (503, 3), "an order is placed once");
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_too_many_is_told_so() {
    let never = upstream(|_| std::future::pending()).await;
    let gateway = gateway(&[never], "caps: {requests: 1}").await;
    let waiting = gateway.get("/");
    let refused = async {
        loop {
            if gateway.ops("/upstreams").await["upstreams"]["web"][0]["in_flight"] == 1 {
                return gateway.get("/").await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let answer = tokio::select! {
        answer = waiting => panic!("{answer:?}"),
        answer = refused => answer,
    };
    assert_eq!(answer.problem()["type"], "https://turnpike.dev/problems/upstream-full");
    assert_eq!(answer.header("retry-after"), "1");
}
