//! What a listener does before it serves: who is behind a proxy that passes bytes on, and who is sent to https.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    running::{Running, echo, passing_on},
    tls::{Authority, put},
};

/// Sends bytes, and reads until the gateway closes.
async fn say(gateway: &Running, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";

/// Whom the upstream was told that the request is from.
fn forwarded_for(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1;
    let told: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    told["headers"]["x-forwarded-for"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_proxy_that_is_named_says_who_its_connection_is_for() {
    let upstream = echo().await;
    let listener = "listeners: [{address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8]}]\naccess_log: false\n";
    let gateway = Running::configured(&format!("{listener}{}", passing_on(upstream))).await;
    assert_eq!(forwarded_for(&say(&gateway, format!("{LINE}{GET}").as_bytes()).await), "192.0.2.7");
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"[..], GET.as_bytes()].concat();
    assert_eq!(forwarded_for(&say(&gateway, &local).await), "127.0.0.1", "the proxy itself");
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\xc0\x00\x02\x01\x12\x67\x01\xbb";
    assert_eq!(forwarded_for(&say(&gateway, &[binary, GET.as_bytes()].concat()).await), "192.0.2.8");
    for wrong in
        [GET, "PROXY TCP4 nobody 192.0.2.1 4711 443\r\n", "PROXY UNKNOWN and so on, without end: ".repeat(9).as_str()]
    {
        assert_eq!(say(&gateway, wrong.as_bytes()).await, "", "{wrong}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let listener = "listeners: [{address: '127.0.0.1:0', proxy_protocol: [192.0.2.0/24]}]\naccess_log: false\n";
    let gateway = Running::configured(&format!("{listener}{}", passing_on(echo().await))).await;
    assert_eq!(forwarded_for(&say(&gateway, GET.as_bytes()).await), "127.0.0.1");
    let answer = say(&gateway, format!("{LINE}{GET}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_client_may_counts_for_the_client_and_not_for_the_proxy() {
    let listener = "listeners: [{address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8]}]\naccess_log: false\n";
    let config = format!("{listener}limits: {{connections_per_address: 2}}\n{}", passing_on(echo().await));
    let gateway = Running::configured(&config).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(LINE.as_bytes()).await.unwrap();
        // Served once, it has its place.
        socket.write_all(GET.replace("close", "keep-alive").as_bytes()).await.unwrap();
        assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
        held.push(socket);
    }
    assert_eq!(say(&gateway, format!("{LINE}{GET}").as_bytes()).await, "", "a third of one client's");
    let other = LINE.replace("192.0.2.7", "192.0.2.8");
    assert_eq!(forwarded_for(&say(&gateway, format!("{other}{GET}").as_bytes()).await), "192.0.2.8");
    drop(held);
    gateway.stop().await;
}

#[tokio::test]
async fn tls_begins_after_the_proxy_has_spoken() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("test"));
    put(folder.path(), "a", &authority.leaf(&["a.test"]));
    let text = format!(
        "listeners: [{{address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8], tls: {{certificate: a.pem, key: a.key}}}}]\n\
         access_log: false\n{}",
        passing_on(echo().await)
    );
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, text).unwrap();
    let gateway = Running::watching(&file).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(LINE.as_bytes()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(authority.client(None)));
    let mut stream = connector.connect("a.test".try_into().unwrap(), socket).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    assert_eq!(forwarded_for(&String::from_utf8_lossy(&answer)), "192.0.2.7");
    gateway.stop().await;
}

#[tokio::test]
async fn a_plain_listener_can_send_everyone_to_https() {
    let listener = "listeners: [{address: '127.0.0.1:0', redirect_https: 8443}]\naccess_log: false\n";
    let config = format!("{listener}trusted_proxies: [127.0.0.1]\n{}", passing_on(echo().await));
    let gateway = Running::configured(&config).await;
    for (method, path) in [("GET", "/a?b=%20c"), ("POST", "/orders"), ("OPTIONS", "/")] {
        let answer = gateway.send(method, path, &[], "").await;
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), format!("https://gateway.test:8443{path}"));
        assert_eq!(answer.header("strict-transport-security"), "");
    }
    let behind = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
    let answer = gateway.send("GET", "/", &behind, "").await;
    assert_eq!(answer.status, 200, "it came by https: {answer:?}");
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    gateway.stop().await;
}
