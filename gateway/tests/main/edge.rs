//! What holds before and around every route: CORS, headers, bounds, ids.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::running::{Running, echo, passing_on, upstream};

const ONE: &str = "routes:\n- {match: {path: /, method: [GET, POST]}, respond: {status: 200, body: ok}}\n";

#[tokio::test]
async fn every_answer_carries_an_id_and_security_headers() {
    let gateway = Running::start(ONE).await;
    for path in ["/", "/nothing"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-request-id").len(), 32);
    }
    let own = gateway.send("GET", "/", &[("x-request-id", "mine-1")], "").await;
    assert_eq!(own.header("x-request-id"), "mine-1");
    gateway.stop().await;
}

#[tokio::test]
async fn a_problem_names_the_callers_trace() {
    let gateway = Running::start(ONE).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-00");
    let answer = gateway.send("GET", "/nothing", &[("traceparent", &traceparent)], "").await;
    assert_eq!(answer.problem()["trace_id"], trace);
    gateway.stop().await;
}

#[tokio::test]
async fn the_callers_trace_and_the_requests_id_go_on_to_the_upstream() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-00");
    let answer = gateway.send("GET", "/", &[("traceparent", &traceparent)], "").await;
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let passed = told["headers"]["traceparent"].as_str().unwrap();
    assert!(passed.starts_with(&format!("00-{trace}-")) && passed != traceparent, "{passed}");
    assert_eq!(told["headers"]["x-request-id"], answer.header("x-request-id"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_callers_trace_state_goes_on_where_it_is_well_formed_and_never_refuses_a_request() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let parent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    let (well_formed, too_long) = ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", format!("a={}", "x".repeat(600)));
    for (state, passed) in [(well_formed, Some(well_formed)), ("no list", None), (&too_long, None)] {
        let answer = gateway.send("GET", "/", &[parent, ("tracestate", state)], "").await;
        assert_eq!(answer.status, 200, "{state}");
        let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["headers"]["tracestate"].as_str(), passed, "{state}");
    }
    let answer = gateway.send("GET", "/", &[("traceparent", "nonsense"), ("tracestate", well_formed)], "").await;
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["headers"]["tracestate"].as_str(), None, "it belongs to a parent that can't be read");
    gateway.stop().await;
}

#[tokio::test]
async fn no_other_origin_may_call_unless_it_is_named() {
    let gateway = Running::start(ONE).await;
    let page = [("origin", "https://app.test")];
    assert_eq!(gateway.send("GET", "/", &page, "").await.header("access-control-allow-origin"), "");
    gateway.stop().await;

    let gateway = Running::start(&format!("cors: {{origins: ['https://app.test'], credentials: true}}\n{ONE}")).await;
    let answer = gateway.send("GET", "/nothing", &page, "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.test", "a page can read errors too");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("vary"), "origin");
    let stranger = gateway.send("GET", "/", &[("origin", "https://evil.test")], "").await;
    assert_eq!((stranger.status.as_u16(), stranger.header("access-control-allow-origin").as_str()), (200, ""));
    let asking = [page[0], ("access-control-request-method", "POST")];
    let preflight = gateway.send("OPTIONS", "/", &asking, "").await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").contains("POST"));
    assert_eq!(preflight.header("access-control-max-age"), "600");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_with_or_without_a_length() {
    let config = format!("limits: {{body: 1KiB}}\n{}", passing_on(echo().await));
    let gateway = Running::start(&config).await;
    assert_eq!(gateway.send("POST", "/", &[], &"x".repeat(1024)).await.status, 200);
    let answer = gateway.send("POST", "/", &[], &"x".repeat(1025)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.problem()["detail"].as_str().unwrap().contains("1 KiB"));
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    let answer = gateway.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_or_414() {
    let gateway = Running::start(ONE).await;
    let one = gateway.send("GET", "/", &[("x-long", &"x".repeat(9 << 10))], "").await;
    assert_eq!(one.status, 431);
    assert!(one.problem()["detail"].as_str().unwrap().contains("x-long"));
    let names: Vec<_> = (0..9).map(|number| format!("x-{number}")).collect();
    let value = "x".repeat(7 << 10);
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let together = gateway.send("GET", "/", &many, "").await;
    assert_eq!(together.status, 431);
    together.problem();
    let long = gateway.get(&format!("/?{}", "x".repeat(9 << 10))).await;
    assert_eq!(long.status, 414);
    long.problem();
    // Far beyond: the codec doesn't even read it.
    let huge = gateway.raw(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes()).await;
    assert!(huge.is_empty() || huge.starts_with("HTTP/1.1 431"), "{huge}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504() {
    let slow = upstream(|_| std::future::pending()).await;
    let config = passing_on(slow).replace("proxy: echo", "timeout: 200ms, proxy: echo");
    let config = config.replace("'],", "'], connect_timeout: 100ms,").replace("']}", "'], connect_timeout: 100ms}");
    let gateway = Running::start(&config).await;
    let before = Instant::now();
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 504);
    answer.problem();
    assert!(before.elapsed() < Duration::from_secs(5));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_drips_its_head_is_cut_off() {
    let gateway = Running::start(ONE).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let (before, mut buffer) = (Instant::now(), Vec::new());
    let (mut reading, mut writing) = socket.split();
    let drip = async {
        loop {
            if writing.write_all(b"G").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        _ = reading.read_to_end(&mut buffer) => {}
        () = drip => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("still open"),
    }
    assert!(before.elapsed() >= Duration::from_secs(9), "{:?}", before.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn http2_is_understood_by_its_preface() {
    let gateway = Running::start(ONE).await;
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<bytes::Bytes>>(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = |method: &str| {
        let uri = format!("http://{}/", gateway.address);
        http::Request::builder().method(method).uri(uri).body(http_body_util::Empty::new()).unwrap()
    };
    let answer = sender.send_request(request("GET")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    let head = sender.send_request(request("HEAD")).await.unwrap();
    assert_eq!(head.headers()["content-length"], "2");
    drop(sender);
    gateway.stop().await;
}

#[tokio::test]
async fn metrics_name_the_route_and_not_the_path() {
    let gateway =
        Running::start("routes:\n- {match: {path: '/metered/{id}', method: GET}, respond: {status: 200}}\n").await;
    gateway.get("/metered/42").await;
    let text = telemetry::render();
    let line =
        text.lines().find(|line| line.starts_with("turnpike_gateway_requests_total") && line.contains("metered"));
    let line = line.unwrap();
    assert!(line.contains("route=\"GET /metered/{id}\"") && line.contains("status_class=\"2xx\""), "{line}");
    assert!(!text.contains("/metered/42"));
    gateway.stop().await;
}
