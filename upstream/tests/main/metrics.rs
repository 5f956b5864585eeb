use upstream::{Config, Protocol, Upstream};

use crate::service::{SAFE, Service, UNSAFE, config, get, hello, nobody, text};

fn has(line: &str) -> bool {
    let page = telemetry::render();
    let found = page.lines().any(|rendered| rendered == line);
    assert!(found, "no line `{line}` in\n{page}");
    found
}

// Its own upstream names: where tests share a process they share the counters.
fn named(name: &str, endpoints: &[std::net::SocketAddr]) -> Upstream {
    Upstream::new(Config { name: name.to_owned(), ..config(Protocol::Http1, endpoints) }).unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_outcome_and_timed() {
    let service = Service::http1(hello).await;
    let client = named("counted", &[service.address]).client();
    for _ in 0..3 {
        text(client.send(get("/"), SAFE).await.unwrap()).await;
    }
    let late = upstream::Options { deadline: Some(std::time::Instant::now()), ..SAFE };
    client.send(get("/"), late).await.unwrap_err();
    assert_eq!(service.requests(), 3, "what is late already isn't sent");
    assert!(has(r#"turnpike_upstream_requests_total{outcome="answered",upstream="counted"} 3"#));
    assert!(has(r#"turnpike_upstream_requests_total{outcome="deadline",upstream="counted"} 1"#));
    assert!(has(r#"turnpike_upstream_request_seconds_count{upstream="counted"} 4"#));
}

#[tokio::test]
async fn retries_are_counted_by_their_reason() {
    let client = named("retried", &[nobody().await]).client();
    client.send(get("/"), UNSAFE).await.unwrap_err();
    assert!(has(r#"turnpike_upstream_retries_total{reason="connect",upstream="retried"} 1"#));
    assert!(has(r#"turnpike_upstream_requests_total{outcome="unreachable",upstream="retried"} 1"#));
}

#[tokio::test]
async fn an_endpoints_health_is_a_gauge() {
    let address = nobody().await;
    let _upstream = named("gauged", &[address]);
    assert!(has(&format!(r#"turnpike_upstream_endpoint_healthy{{endpoint="{address}",upstream="gauged"}} 1"#)));
}
