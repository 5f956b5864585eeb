//! Who a client is, by address: what is believed of whom, what follows from it, and who may call at all.

use std::time::Duration;

use serde_json::Value;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    running::{Running, echo},
    session::{GOOD, authenticator},
};

fn behind(upstream: std::net::SocketAddr, sections: &str) -> String {
    format!(
        "upstreams: {{echo: {{endpoints: ['{upstream}']}}}}\n\
         routes: [{{match: {{path: '/{{rest=**}}'}}, proxy: echo}}]\n{sections}"
    )
}

/// What the upstream is told of a request with these fields.
async fn told(gateway: &Running, fields: &[(&str, &str)]) -> Value {
    let answer = gateway.send("GET", "/", fields, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<Value>(&answer.body).unwrap()["headers"].clone()
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_not_passed_on() {
    let gateway = Running::start(&behind(echo().await, "")).await;
    let forged = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
    ];
    let told = told(&gateway, &forged).await;
    assert_eq!(told["x-forwarded-for"], "127.0.0.1");
    assert_eq!((&told["x-forwarded-proto"], &told["x-forwarded-host"]), (&"http".into(), &"gateway.test".into()));
    for gone in ["x-forwarded-port", "x-forwarded-prefix", "forwarded", "x-real-ip"] {
        assert!(told[gone].is_null(), "{gone}: {told}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let sections = "trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n";
    let gateway = Running::start(&behind(echo().await, sections)).await;
    let told = told(
        &gateway,
        &[
            ("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
        ],
    )
    .await;
    assert_eq!(told["x-forwarded-for"], "198.51.100.7, 10.0.0.9, 127.0.0.1", "what is known, not what was made up");
    assert_eq!((&told["x-forwarded-proto"], &told["x-forwarded-host"]), (&"https".into(), &"shop.example".into()));
    gateway.stop().await;
}

#[tokio::test]
async fn forwarded_is_believed_only_where_the_file_says_so() {
    let upstream = echo().await;
    let fields = [("forwarded", "for=198.51.100.7;proto=https"), ("x-forwarded-for", "203.0.113.1")];
    for (header, expected) in [("x-forwarded-for", "203.0.113.1, 127.0.0.1"), ("forwarded", "198.51.100.7, 127.0.0.1")]
    {
        let sections = format!("trusted_proxies: {{networks: [127.0.0.1], header: {header}}}\n");
        let gateway = Running::start(&behind(upstream, &sections)).await;
        assert_eq!(told(&gateway, &fields).await["x-forwarded-for"], expected);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_limit_counts_the_client_behind_the_proxy() {
    let gateway = Running::start(
        "trusted_proxies: [127.0.0.1]\n\
         rate_limit: {requests: 1, per: 1h, key: client_address}\n\
         routes: [{match: {path: /}, respond: {status: 200}}]\n",
    )
    .await;
    let from = async |client: &str| gateway.send("GET", "/", &[("x-forwarded-for", client)], "").await.status.as_u16();
    assert_eq!([from("198.51.100.7").await, from("198.51.100.8").await], [200, 200]);
    assert_eq!(from("198.51.100.7").await, 429);
    assert_eq!(from("1.2.3.4, 198.51.100.7").await, 429, "it can't be another by saying so");
    assert_eq!([from("2001:db8::1").await, from("2001:db8::2").await], [200, 429], "one network");
    gateway.stop().await;
}

#[tokio::test]
async fn lists_say_who_may_call_everywhere_and_on_a_route() {
    let gateway = Running::start(
        "trusted_proxies: [127.0.0.1]\n\
         addresses: {deny: [203.0.113.0/24]}\n\
         routes:\n\
         - {match: {path: /}, respond: {status: 200}}\n\
         - {match: {path: /office}, respond: {status: 200}, addresses: {allow: [198.51.100.0/24], deny: [198.51.100.66]}}\n",
    )
    .await;
    let from = async |client: &str, path: &str| {
        let answer = gateway.send("GET", path, &[("x-forwarded-for", client)], "").await;
        if answer.status == 403 {
            assert_eq!(answer.problem()["type"], "https://turnpike.dev/problems/forbidden");
        }
        answer.status.as_u16()
    };
    assert_eq!([from("198.51.100.7", "/").await, from("203.0.113.9", "/").await], [200, 403]);
    assert_eq!(from("203.0.113.9", "/nowhere").await, 403, "who is denied does not learn what there is");
    assert_eq!([from("198.51.100.7", "/office").await, from("192.0.2.1", "/office").await], [200, 403]);
    assert_eq!(from("198.51.100.66", "/office").await, 403);
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_denied_is_not_even_connected() {
    let gateway = Running::start(
        "addresses: {deny: [127.0.0.2]}\nroutes: [{match: {path: /}, respond: {status: 200, body: in}}]\n",
    )
    .await;
    assert!(!answered(&gateway, "127.0.0.2").await);
    assert!(answered(&gateway, "127.0.0.3").await);
    eventually("it is counted", Duration::from_secs(10), async || {
        telemetry::render().contains("turnpike_gateway_connections_refused_total{reason=\"denied\"").then_some(())
    })
    .await;
    gateway.stop().await;
}

/// Whether a request from this address of the machine gets an answer.
async fn answered(gateway: &Running, from: &str) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut socket: TcpStream = socket.connect(gateway.address).await.unwrap();
    _ = socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    _ = socket.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a_network_that_is_none_is_refused_with_its_place() {
    for section in [
        "trusted_proxies: [10.0.0.1/8]\n",
        "trusted_proxies: {networks: [10.0.0.0/8], header: x-real-ip}\n",
        "addresses: {deny: [everybody]}\n",
        "addresses: {forbid: [10.0.0.1]}\n",
    ] {
        let text = format!("{}routes: []\n{section}", crate::running::LISTENER);
        let errors =
            gateway::check(&text, &gateway::Properties::new(), None, &std::collections::BTreeMap::new()).unwrap_err();
        assert_eq!(errors.len(), 1, "{section}");
    }
}

#[tokio::test]
async fn a_key_for_this_machine_is_not_good_through_a_proxy_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = gateway::keys::put(&file, "demo", "0123456789abcdef", |key| {
        key.subject = "operators/1".to_owned();
        key.loopback_only = true;
    });
    let key = key.unwrap();
    let gateway = Running::start(&format!(
        "trusted_proxies: [127.0.0.1]\nauthentication: {{api_keys: {{file: '{}'}}}}\n\
         routes: [{{match: {{path: /mine}}, authenticate: required, respond: {{status: 200}}}}]\n",
        file.display()
    ))
    .await;
    for (client, status) in [("198.51.100.7", 401), ("127.0.0.1", 200), ("unknown", 200)] {
        let headers = [("x-api-key", key.as_str()), ("x-forwarded-for", client)];
        assert_eq!(gateway.send("GET", "/mine", &headers, "").await.status, status, "{client}");
    }
    assert_eq!(gateway.send("GET", "/mine", &[("x-api-key", &key)], "").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn our_own_pages_have_the_name_that_the_proxy_was_asked_for() {
    let customers = authenticator().await;
    let sections = format!(
        "upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}}}\n\
         authentication: {{session: {{upstream: customers}}}}\n\
         routes: [{{match: {{path: /mine}}, authenticate: required, respond: {{status: 200}}}}]\n",
        customers.address
    );
    for (proxies, status) in [("trusted_proxies: [127.0.0.1]\n", 200), ("", 403)] {
        let gateway = Running::start(&format!("{sections}{proxies}")).await;
        let logged_in = gateway.send("POST", "/session", &[("content-type", "application/json")], GOOD).await;
        let cookie = logged_in.header("set-cookie").split(';').next().unwrap().to_owned();
        let behind = [
            ("cookie", cookie.as_str()),
            ("origin", "https://shop.example"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-host", "shop.example"),
        ];
        assert_eq!(gateway.send("POST", "/mine", &behind, "").await.status, status, "{proxies}");
        gateway.stop().await;
    }
}
