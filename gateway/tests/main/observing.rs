//! What an operator is told of requests: the access log, metrics, and analytics.

use std::{fs, path::Path, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    proxy::websocket,
    running::{Connection, Running, echo},
};

const BOUND: Duration = Duration::from_secs(20);

/// A gateway that writes its access log into the folder.
async fn logging(folder: &Path, more: &str, routes: &str) -> Running {
    let path = folder.join("gateway.yaml");
    let log = folder.join("access.log");
    let text =
        format!("listeners: [{{address: '127.0.0.1:0'}}]\naccess_log: {{file: '{}'{more}}}\n{routes}", log.display());
    fs::write(&path, text).unwrap();
    Running::watching(&path).await
}

async fn lines(folder: &Path, count: usize) -> Vec<Value> {
    eventually("the lines", BOUND, async || {
        let text = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

/// A sample of what /metrics says.
fn metric(name: &str) -> f64 {
    let text = telemetry::render();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_line_says_what_passed_and_how_long_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let routes = format!(
        "upstreams: {{web: {{endpoints: ['{}']}}}}\n\
         routes:\n- {{name: things, match: {{path: '/things/{{id}}'}}, proxy: web}}\n",
        echo().await
    );
    let gateway = logging(folder.path(), "", &routes).await;
    let headers = [("x-request-id", "r-1"), ("user-agent", "tester/1")];
    let answer = gateway.send("POST", "/things/7?api_key=hunter2", &headers, "twelve bytes").await;
    assert_eq!(gateway.get("/nowhere").await.status, 404);
    let lines = lines(folder.path(), 2).await;
    let [line, missed] = &*lines else { panic!("{lines:?}") };
    for (field, wanted) in [
        ("http.request.method", Value::from("POST")),
        ("url.path", "/things/7".into()),
        ("http.response.status_code", 200.into()),
        ("http.request.body.size", 12.into()),
        ("http.response.body.size", answer.body.len().into()),
        ("http.route", "things".into()),
        ("upstream", "web".into()),
        ("client.address", "127.0.0.1".into()),
        ("request.id", "r-1".into()),
        ("user_agent.original", "tester/1".into()),
        ("network.protocol.version", "1.1".into()),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    let [begin, whole, upstream] = ["begin.ms", "duration.ms", "upstream.ms"].map(|name| line[name].as_f64().unwrap());
    assert!(upstream > 0.0 && upstream <= begin && begin <= whole, "{line}");
    assert!(!line.to_string().contains("hunter2"), "{line}");
    assert_eq!((&missed["http.route"], &missed["http.response.status_code"]), (&"none".into(), &404.into()));
    assert_eq!(metric("turnpike_gateway_request_bytes_total{route=\"things\"}"), 12.0);
    assert_eq!(metric("turnpike_gateway_request_seconds_bucket{route=\"things\",le=\"10\"}"), 1.0);
    assert_eq!(metric("turnpike_gateway_request_seconds_bucket{route=\"things\",le=\"+Inf\"}"), 1.0);
    assert!(telemetry::render().contains("le=\"0.0025\""));
    assert_eq!(metric("turnpike_gateway_response_bytes_total{route=\"things\"}"), answer.body.len() as f64);
    gateway.stop().await;
}

#[tokio::test]
async fn a_share_of_the_good_ones_and_all_that_failed_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let routes = "routes:\n- {match: {path: /}, respond: {status: 200, body: here}}\n";
    let gateway = logging(folder.path(), ", sample: 0", routes).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(gateway.get("/nowhere").await.status, 404);
    let lines = lines(folder.path(), 1).await;
    assert_eq!((lines.len(), &lines[0]["http.response.status_code"]), (1, &404.into()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_is_told_of_when_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let routes = format!(
        "upstreams: {{web: {{endpoints: ['{}']}}}}\nroutes: [{{match: {{path: /ws, method: GET}}, proxy: web}}]\n",
        websocket().await
    );
    let gateway = logging(folder.path(), "", &routes).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let url = format!("ws://{}/ws", gateway.address);
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(metric("turnpike_gateway_streams{kind=\"websocket\"}"), 1.0);
    assert!(!folder.path().join("access.log").exists(), "it is not over");
    drop(socket);
    let line = lines(folder.path(), 1).await.remove(0);
    assert_eq!(line["http.response.status_code"], 101);
    // A frame of five bytes, with its mask one way.
    assert!(line["http.request.body.size"].as_u64().unwrap() >= 11, "{line}");
    assert!(line["http.response.body.size"].as_u64().unwrap() >= 7, "{line}");
    assert_eq!(metric("turnpike_gateway_streams{kind=\"websocket\"}"), 0.0);
    gateway.stop().await;
}

#[tokio::test]
async fn who_goes_away_before_the_end_is_told_of_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let body = "x".repeat(8 << 20);
    let large = crate::running::upstream(move |_| {
        let body = body.clone();
        async { http::Response::new(http_body_util::Full::from(body)) }
    })
    .await;
    let routes =
        format!("upstreams: {{web: {{endpoints: ['{large}']}}}}\nroutes: [{{match: {{path: /}}, proxy: web}}]\n");
    let gateway = logging(folder.path(), "", &routes).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await.unwrap();
    let mut first = [0; 1024];
    assert!(socket.read(&mut first).await.unwrap() > 0);
    drop(socket);
    let line = lines(folder.path(), 1).await.remove(0);
    assert_eq!((&line["http.response.status_code"], &line["complete"]), (&200.into(), &false.into()));
    assert!(line["http.response.body.size"].as_u64().unwrap() < 8 << 20, "{line}");
    gateway.stop().await;
}

#[tokio::test]
async fn analytics_tell_who_asked_for_what_and_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let key = gateway::keys::new(&folder.path().join("keys.yaml"), "partners/acme", &[], None).unwrap();
    let gateway = Running::start(&format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         routes:\n- {{name: open, match: {{path: /open}}, respond: {{status: 200, body: here}}}}\n\
         - {{name: broken, match: {{path: /broken}}, respond: {{status: 503, body: away}}}}\n",
        folder.path().join("keys.yaml").display()
    ))
    .await;
    let mut connection = Connection::open(gateway.address).await;
    for _ in 0..10 {
        connection.send("GET", "/open", &[("x-api-key", &key)], "").await;
    }
    for _ in 0..3 {
        connection.send("GET", "/broken", &[], "").await;
        connection.send("GET", "/nowhere", &[], "").await;
    }

    let routes = gateway.ops("/analytics/routes?sort=error_rate").await;
    let told: Vec<_> = routes["routes"].as_array().unwrap().iter().map(|route| &route["route"]).collect();
    assert_eq!(told, ["broken", "none", "open"]);
    let open = &routes["routes"][2];
    assert_eq!((&open["requests"], &open["statuses"]["200"], &open["errors"]), (&10.into(), &10.into(), &0.into()));
    assert!(open["p99_ms"].as_f64().unwrap() > 0.0, "{open}");
    assert_eq!(routes["routes"][1]["client_errors"], 3);

    let clients = gateway.ops("/analytics/clients").await;
    let named = |answer: &Value, name: &str| {
        let clients = answer["clients"].as_array().unwrap();
        clients.iter().find(|own| own["client"] == name).map(|own| own["count"].clone())
    };
    assert_eq!(named(&clients, "partners/acme"), Some(10.into()));
    assert_eq!(named(&clients, "127.0.0.1"), Some(16.into()));
    let failing = gateway.ops("/analytics/clients?by=errors&route=broken").await;
    assert_eq!((named(&failing, "127.0.0.1"), named(&failing, "partners/acme")), (Some(3.into()), None));

    let series = gateway.ops("/analytics/statuses?step=1m").await;
    let sum: u64 = series["points"].as_array().unwrap().iter().map(|point| point["requests"].as_u64().unwrap()).sum();
    assert_eq!(sum, 16);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_are_shown_by_protocol_and_address() {
    let gateway = Running::start("routes: [{match: {path: /}, respond: {status: 200, body: here}}]\n").await;
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    let mut connections = [Connection::open(gateway.address).await, Connection::open(gateway.address).await];
    for connection in &mut connections {
        connection.send("GET", "/", &[], "").await;
    }
    let shown = eventually("all three", BOUND, async || {
        let shown = gateway.ops("/connections").await;
        (shown["open"] == 3).then_some(shown)
    })
    .await;
    assert_eq!((&shown["without_request"], &shown["protocols"]["http/1.1"]), (&1.into(), &2.into()));
    assert_eq!(shown["top_addresses"][0], serde_json::json!({"client": "127.0.0.1", "connections": 2}));
    assert_eq!(shown["oldest"].as_array().unwrap().len(), 2);
    assert_eq!(metric("turnpike_gateway_connections_by_protocol{protocol=\"http/1.1\"}"), 2.0);
    drop((silent, connections));
    eventually("none is left", BOUND, async || {
        let by_protocol = metric("turnpike_gateway_connections_by_protocol{protocol=\"http/1.1\"}");
        (gateway.ops("/connections").await["open"] == 0 && by_protocol == 0.0).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn everything_on_the_ops_listener_is_there() {
    let gateway = Running::start("routes: [{match: {path: /}, respond: {status: 200, body: here}}]\n").await;
    for path in ["/routes", "/upstreams", "/limits", "/shared", "/connections", "/config", "/analytics/routes"] {
        assert!(gateway.ops(path).await.is_object(), "{path}");
    }
    gateway.stop().await;
}
