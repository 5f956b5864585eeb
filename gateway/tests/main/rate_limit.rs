//! How many requests pass, and what the client is told.

use gateway::keys;

use crate::running::{Connection, Running};

#[tokio::test]
async fn a_hundred_pass_in_a_minute_and_the_next_waits() {
    let gateway = Running::start(
        "routes:\n- match: {path: /}\n  respond: {status: 200}\n  rate_limit: {requests: 100, per: 1m, key: client_address}\n",
    )
    .await;
    let mut connection = Connection::open(gateway.address).await;
    for sent in 1..=100 {
        let answer = connection.send("GET", "/", &[], "").await;
        assert_eq!(answer.status, 200, "request {sent}");
        assert_eq!(answer.header("ratelimit-policy"), "\"route-client_address\";q=100;w=60");
        let state = answer.header("ratelimit");
        assert!(state.starts_with(&format!("\"route-client_address\";r={};t=", 100 - sent)), "{state}");
    }
    // Another connection, most likely another core: the count is shared.
    let refused = gateway.get("/").await;
    assert_eq!(refused.status, 429);
    refused.problem();
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((50..=61).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").contains(";r=0;"), "{refused:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_whose_key_a_request_lacks_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = keys::new(&file, "customers/1", &[], None).unwrap();
    let gateway = Running::start(&format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         rate_limit: {{requests: 1, per: 1m, key: principal}}\n\
         routes:\n- {{match: {{path: /}}, respond: {{status: 200}}}}\n",
        file.display()
    ))
    .await;
    for _ in 0..3 {
        let answer = gateway.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit").as_str()), (200, ""));
    }
    let known = [("x-api-key", key.as_str())];
    assert_eq!(gateway.send("GET", "/", &known, "").await.status, 200);
    assert_eq!(gateway.send("GET", "/", &known, "").await.status, 429);
    gateway.stop().await;
}

#[tokio::test]
async fn a_window_and_a_rate_hold_together_and_a_refused_request_uses_up_neither() {
    let gateway = Running::start(
        "routes:\n- match: {path: /}\n  respond: {status: 200}\n  rate_limit:\n\
         \x20 - {name: rate, rate: 1/s, burst: 1, key: 'header:x-tenant'}\n\
         \x20 - {name: window, requests: 2, per: 1h, key: client_address}\n",
    )
    .await;
    let of = async |tenant: &str| gateway.send("GET", "/", &[("x-tenant", tenant)], "").await;
    let first = of("a").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), "\"window\";q=2;w=3600, \"rate\";q=1;w=1");
    assert_eq!(of("a").await.status, 429, "the tenant's rate");
    assert_eq!(of("b").await.status, 200, "the refused request is not in the window");
    let refused = of("c").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 3000, "the window this time");
    gateway.stop().await;
}

#[tokio::test]
async fn a_shadow_limit_refuses_nobody() {
    let gateway = Running::start(
        "rate_limit: {requests: 1, per: 1m, key: client_address, mode: shadow}\n\
         routes:\n- {match: {path: /}, respond: {status: 200}}\n",
    )
    .await;
    for _ in 0..3 {
        let answer = gateway.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit").as_str()), (200, ""));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_by_client_address_comes_before_everything() {
    let gateway = Running::start("rate_limit: {requests: 2, per: 1m, key: client_address}\nroutes: []\n").await;
    assert_eq!(gateway.get("/a").await.status, 404);
    assert_eq!(gateway.get("/b").await.status, 404);
    assert_eq!(gateway.get("/c").await.status, 429);
    gateway.stop().await;
}
