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

#[tokio::test]
async fn what_costs_more_uses_up_more() {
    let gateway = Running::start(
        "routes:\n\
         - {match: {path: /cheap}, respond: {status: 200}, rate_limit: {name: work, requests: 10, per: 1h, key: client_address}}\n\
         - match: {path: /dear}\n\
         \x20 respond: {status: 200}\n\
         \x20 rate_limit: {name: work, requests: 10, per: 1h, key: client_address, cost: 4}\n",
    )
    .await;
    let left = async |path: &str| {
        let answer = gateway.get(path).await;
        let left = answer.header("ratelimit").split(';').nth(1).unwrap().to_owned();
        (answer.status.as_u16(), left)
    };
    assert_eq!(left("/dear").await, (200, "r=6".to_owned()));
    assert_eq!(left("/cheap").await, (200, "r=5".to_owned()), "limits of one name are one limit");
    assert_eq!(left("/dear").await, (200, "r=1".to_owned()));
    assert_eq!(left("/dear").await, (429, "r=1".to_owned()));
    assert_eq!(left("/cheap").await, (200, "r=0".to_owned()), "there was room for a cheap one");
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_may_say_what_it_costs_of_a_limit_that_holds_everywhere() {
    for key in ["everyone", "client_address"] {
        let gateway = Running::start(&format!(
            "rate_limit: {{name: all, requests: 10, per: 1h, key: {key}}}\n\
             routes:\n\
             - {{match: {{path: /cheap}}, respond: {{status: 200}}}}\n\
             - match: {{path: /dear}}\n\
             \x20 respond: {{status: 200}}\n\
             \x20 rate_limit: {{name: all, requests: 10, per: 1h, key: {key}, cost: 8}}\n",
        ))
        .await;
        assert!(gateway.get("/cheap").await.header("ratelimit").starts_with("\"all\";r=9;"));
        assert!(gateway.get("/dear").await.header("ratelimit").starts_with("\"all\";r=1;"), "{key}: asked once");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn one_name_can_not_stand_for_two_limits() {
    let text = format!(
        "{}routes:\n\
         - {{match: {{path: /a}}, respond: {{status: 200}}, rate_limit: {{name: one, requests: 1, per: 1m, key: route}}}}\n\
         - {{match: {{path: /b}}, respond: {{status: 200}}, rate_limit: {{name: one, requests: 2, per: 1m, key: route}}}}\n",
        crate::running::LISTENER
    );
    let errors =
        gateway::check(&text, &gateway::Properties::new(), None, &std::collections::BTreeMap::new()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path, "routes[1].rate_limit[0].name");
}

#[tokio::test]
async fn a_key_may_have_several_parts_and_a_route_counts_its_own() {
    let gateway = Running::start(
        "rate_limit: {requests: 1, per: 1h, key: [client_address, 'header:x-tenant', route]}\n\
         routes:\n- {match: {path: /a}, respond: {status: 200}}\n- {match: {path: /b}, respond: {status: 200}}\n",
    )
    .await;
    let of =
        async |path: &str, tenant: &str| gateway.send("GET", path, &[("x-tenant", tenant)], "").await.status.as_u16();
    assert_eq!([of("/a", "x").await, of("/a", "y").await, of("/b", "x").await], [200; 3]);
    assert_eq!([of("/a", "x").await, of("/b", "x").await], [429; 2]);
    assert_eq!(gateway.get("/a").await.status, 200, "no tenant, no limit");
    gateway.stop().await;
}

#[tokio::test]
async fn operators_see_who_presses_what_is_left_and_may_reset_it() {
    let gateway = Running::start(
        "routes:\n- match: {path: /}\n  respond: {status: 200}\n  rate_limit:\n\
         \x20 - {name: window, requests: 5, per: 1h, key: client_address}\n\
         \x20 - {name: rate, rate: 1/s, burst: 100, key: everyone}\n",
    )
    .await;
    for _ in 0..7 {
        gateway.get("/").await;
    }
    let limits = gateway.ops("/limits").await;
    let window = limits["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "window").unwrap();
    assert_eq!((&window["refused"], &window["near"], &window["keys"]), (&2.into(), &1.into(), &1.into()));
    let hottest = &window["hottest"][0];
    assert_eq!((&hottest["key"], &hottest["times"], &hottest["refused"]), (&"127.0.0.1".into(), &3.into(), &2.into()));
    assert!(telemetry::render().contains("turnpike_gateway_rate_limit_near_total{policy=\"window\""));

    let key = "/limits/key?limit=window&key=127.0.0.1";
    let found = gateway.ops(key).await;
    assert_eq!((&found["quota"], &found["remaining"]), (&5.into(), &0.into()));
    assert!(gateway.ops("/limits/key?limit=rate&key=").await["remaining"].as_u64().unwrap() >= 95);
    for nothing in ["/limits/key", "/limits/key?limit=none&key=1", "/limits/key?limit=window&key=nobody"] {
        assert_eq!(ask(&gateway, "GET", nothing).await, 404, "{nothing}");
    }
    assert_eq!(ask(&gateway, "DELETE", key).await, 200);
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.stop().await;
}

async fn ask(gateway: &Running, method: &str, path: &str) -> u16 {
    let request = http::Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
    tower::ServiceExt::oneshot(gateway.ops.clone(), request).await.unwrap().status().as_u16()
}
