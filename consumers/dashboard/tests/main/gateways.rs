use axum::{Json, Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::net::TcpListener;

use crate::{SOON, Site};

const SCRAPE: &str = "# TYPE turnpike_gateway_requests_total counter\n\
    turnpike_gateway_requests_total{method=\"GET\",route=\"products\",status_class=\"2xx\"} 12\n\
    turnpike_gateway_in_flight 2\nturnpike_gateway_connections 5\n";

/// An ops listener as a gateway has it, that isn't ready.
async fn ops() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let waiting = json!({ "ready": false, "waiting": { "gateway": { "role": "starting" } } });
    let router = Router::new()
        .route("/metrics", get(async || SCRAPE))
        .route("/readyz", get(async move || (StatusCode::SERVICE_UNAVAILABLE, Json(waiting.clone()))));
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

#[tokio::test]
async fn a_gateway_is_shown_with_its_reason() {
    let site = Site::sqlite().await;
    let (url, serving) = ops().await;
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port());
    let mut config = site.config();
    config.gateways = vec![url.clone(), nobody.clone()];
    let dashboard = site.start_with(config).await;
    let gateway = async |url: &str, health: &str| -> Value {
        eventually(&format!("{url} is {health}"), SOON, async || {
            let gateway = dashboard.snapshot().await["gateways"][url].take();
            (gateway["health"] == health && (health == "away" || gateway["traffic"].is_object())).then_some(gateway)
        })
        .await
    };
    let shown = gateway(&url, "not_ready").await;
    assert_eq!(shown["reasons"], json!(["gateway: starting"]));
    assert_eq!((&shown["in_flight"], &shown["connections"]), (&json!(2.0), &json!(5.0)));
    assert_eq!(shown["traffic"]["rates"], json!([0.0, 0.0, 0.0, 0.0, 0.0]));
    let shown = gateway(&nobody, "away").await;
    assert!(shown["reasons"][0].as_str().unwrap().contains("reached"), "{shown}");
    serving.abort();
    gateway(&url, "away").await;
    dashboard.drain().await;
}

#[tokio::test]
async fn what_is_no_ops_listener_is_refused_at_the_start() {
    let site = Site::sqlite().await;
    for url in ["127.0.0.1:9900", "https://gateway:9900", "not a url"] {
        let mut config = site.config();
        config.gateways = vec![url.to_owned()];
        let Err(refused) = dashboard::build(config).await else { panic!("{url} was taken") };
        assert!(format!("{refused:#}").contains("dashboard.gateways"), "{refused:#}");
    }
}
