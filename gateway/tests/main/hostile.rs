//! Clients that mean no good, or don't know better.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use gateway::keys;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    running::{Running, echo, passing_on},
    session::{GOOD, authenticator},
};

/// Processor time of this process so far; each test has a process of its own.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 =
        text.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test]
async fn clients_that_stop_after_their_first_byte_cost_nothing() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        // Might become POST, PUT or the preface of HTTP/2.
        socket.write_all(b"P").await.unwrap();
        held.push(socket);
    }
    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of a second");
    drop(held);
    gateway.stop().await;
}

#[tokio::test]
async fn clients_that_never_begin_do_not_hold_up_a_drain() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    let mut hesitant = TcpStream::connect(gateway.address).await.unwrap();
    hesitant.write_all(b"P").await.unwrap();
    assert_eq!(gateway.get("/").await.status, 200);
    let start = Instant::now();
    gateway.stop().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop((silent, hesitant));
}

#[tokio::test]
async fn a_request_without_one_good_host_is_refused() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a/b\r\n", "Host: a b\r\n", "Host: me@a\r\n", "Host: a?\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{hosts}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    for hosts in ["Host: \r\n", "Host: a.test:80\r\n", "Host: [::1]:80\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert!(gateway.raw(request.as_bytes()).await.starts_with("HTTP/1.1 200 "), "{hosts}");
    }
    assert!(gateway.raw(b"GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "), "which knows no Host");
    gateway.stop().await;
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// A gateway with keys, sessions, and an upstream that tells what it got; with a key of `partners/1`.
async fn with_sessions(folder: &Path) -> (Running, String) {
    let file = folder.join("keys.yaml");
    let key = keys::new(&file, "partners/1", &[], None).unwrap();
    let config = format!(
        "authentication:\n\
        \x20 api_keys: {{file: '{}'}}\n\
        \x20 session: {{upstream: customer, rate_limit: {{rate: 1/s, burst: 3, key: client_address}}}}\n\
         upstreams:\n\
        \x20 customer: {{endpoints: ['{}'], protocol: grpc}}\n\
        \x20 echo: {{endpoints: ['{}']}}\n\
         routes:\n\
         - {{match: {{path: /open}}, proxy: echo}}\n\
         - {{match: {{path: /blind}}, authenticate: none, proxy: echo}}\n",
        file.display(),
        authenticator().await.address,
        echo().await,
    );
    (Running::start(&config).await, key)
}

async fn log_in(gateway: &Running) -> String {
    let answer = gateway.send("POST", "/session", &[JSON], GOOD).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_goes_no_further_than_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = with_sessions(folder.path()).await;
    let cookie = format!("a=1; {}", log_in(&gateway).await);
    let with_key = [("cookie", cookie.as_str()), ("x-api-key", key.as_str())];
    let stale = [("cookie", "a=1; __Host-session=over")];
    for (path, headers) in
        [("/open", &with_key[..1]), ("/open", &with_key), ("/open", &stale), ("/blind", &with_key[..1])]
    {
        let told: Value = serde_json::from_str(&gateway.send("GET", path, headers, "").await.body).unwrap();
        assert_eq!(told["headers"]["cookie"], "a=1", "{path} {headers:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_brings_a_key_and_a_session_is_told_as_whom_it_acts() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = with_sessions(folder.path()).await;
    let cookie = log_in(&gateway).await;
    let who = async |headers: &[(&str, &str)]| -> Value {
        serde_json::from_str(&gateway.send("GET", "/session", headers, "").await.body).unwrap()
    };
    assert_eq!(who(&[("cookie", &cookie)]).await["subject"], "customers/1");
    let both = who(&[("cookie", &cookie), ("x-api-key", &key)]).await;
    assert_eq!(both, json!({"subject": "partners/1", "scopes": [], "claims": {}, "expires": null}));
    gateway.stop().await;
}

#[tokio::test]
async fn every_401_says_how_to_be_known() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _) = with_sessions(folder.path()).await;
    let wrong = r#"{"email": "a@example.com", "password": "guess"}"#;
    for (method, body) in [("GET", ""), ("POST", wrong)] {
        let answer = gateway.send(method, "/session", &[JSON], body).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"turnpike\"", "{method}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn passwords_can_not_be_guessed_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _) = with_sessions(folder.path()).await;
    let wrong = r#"{"email": "a@example.com", "password": "guess"}"#;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(gateway.send("POST", "/session", &[JSON], wrong).await.status.as_u16());
    }
    assert_eq!(answers, [401, 401, 401, 429]);
    assert_eq!(gateway.get("/session").await.status, 401, "asking who one is costs nothing");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_is_encoded_is_not_taken_for_what_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _) = with_sessions(folder.path()).await;
    let answer = gateway.send("POST", "/session", &[JSON, ("content-encoding", "deflate")], GOOD).await;
    assert_eq!((answer.status.as_u16(), answer.header("accept-encoding")), (415, "br, zstd, gzip".to_owned()));
    answer.problem();
    assert_eq!(gateway.send("POST", "/session", &[JSON, ("content-encoding", "identity")], GOOD).await.status, 201);
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_while_it_lives_and_is_drained() {
    let web = crate::proxy::websocket().await;
    let sections = format!("limits: {{connections: 2}}\n{}", passing_on(web));
    let gateway = Running::start(&sections).await;
    let address = gateway.address;
    let dial = || async move {
        let stream = TcpStream::connect(address).await.ok()?;
        tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await.ok().map(|(socket, _)| socket)
    };
    let (mut first, second) = (dial().await.expect("the first"), dial().await.expect("the second"));
    assert!(dial().await.is_none(), "a third is one too many");
    drop(second);
    let third = testkit::eventually("its place is free again", Duration::from_secs(5), || async { dial().await }).await;
    drop(third);

    // A message on its way when the drain begins still comes back.
    let stopping = tokio::spawn(gateway.stop());
    testkit::eventually("nobody is taken in", Duration::from_secs(5), || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    first.send(Message::text("still here")).await.unwrap();
    assert_eq!(first.next().await.unwrap().unwrap(), Message::text("still here"));
    first.close(None).await.unwrap();
    while let Some(Ok(_)) = first.next().await {}
    drop(first);
    let start = Instant::now();
    stopping.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "the drain ends with the last WebSocket");
}
