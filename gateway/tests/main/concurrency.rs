//! How many requests, and how many connections, one client may have at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gateway::keys;
use http::Response;
use http_body_util::Full;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use crate::running::{Running, upstream};

const BOUND: Duration = Duration::from_secs(20);

/// A service that answers a request when it may.
async fn waiting() -> (std::net::SocketAddr, Arc<Semaphore>) {
    let leave = Arc::new(Semaphore::new(0));
    let awaited = Arc::clone(&leave);
    let address = upstream(move |_| {
        let leave = Arc::clone(&awaited);
        async move {
            leave.acquire().await.unwrap().forget();
            Response::new(Full::new(Bytes::from("done")))
        }
    })
    .await;
    (address, leave)
}

async fn under_way(gateway: &Running, requests: u64) {
    let all = async || {
        let limits = gateway.ops("/limits").await;
        let limits = limits["concurrency"].as_array().unwrap().clone();
        (limits.iter().map(|limit| limit["under_way"].as_u64().unwrap()).sum::<u64>() == requests).then_some(())
    };
    eventually(&format!("{requests} are under way"), BOUND, all).await;
}

#[tokio::test]
async fn a_caller_has_so_many_requests_at_once_and_another_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let [one, two] = ["customers/1", "customers/2"].map(|subject| keys::new(&file, subject, &[], None).unwrap());
    let (service, leave) = waiting().await;
    let gateway = Running::start(&format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         upstreams: {{web: {{endpoints: ['{service}']}}}}\n\
         routes:\n\
         - match: {{path: /}}\n\
         \x20 proxy: web\n\
         \x20 concurrency: {{requests: 2, key: principal}}\n\
         \x20 rate_limit: {{requests: 4, per: 1h, key: principal}}\n",
        file.display()
    ))
    .await;
    let ask = async |key: &str| gateway.send("GET", "/", &[("x-api-key", key)], "").await;
    let (first, second, other, refused) = tokio::join!(ask(&one), ask(&one), ask(&two), async {
        under_way(&gateway, 3).await;
        let refused = ask(&one).await;
        leave.add_permits(3);
        refused
    });
    assert_eq!([first.status, second.status, other.status].map(|status| status.as_u16()), [200; 3]);
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").as_str()), (429, "1"));
    assert_eq!(refused.problem()["type"], "https://turnpike.dev/problems/too-many-at-once");
    under_way(&gateway, 0).await;
    leave.add_permits(1);
    let third = ask(&one).await;
    assert_eq!(third.status, 200, "there is room again");
    assert!(third.header("ratelimit").contains(";r=1;"), "what was refused used up no quota: {third:?}");
    let limit = &gateway.ops("/limits").await["concurrency"][0];
    assert_eq!((&limit["refused"], &limit["keys"], &limit["key"]), (&1.into(), &0.into(), &"principal".into()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_is_under_way_until_its_answer_is_out() {
    let large = upstream(|_| async { Response::new(Full::new(Bytes::from(vec![b'x'; 32 << 20]))) }).await;
    let gateway = Running::start(&format!(
        "upstreams: {{web: {{endpoints: ['{large}']}}}}\n\
         concurrency: {{requests: 1, key: client_address}}\n\
         routes: [{{match: {{path: /}}, proxy: web}}]\n"
    ))
    .await;
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut begun = [0; 64];
    slow.read_exact(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    assert_eq!(gateway.get("/").await.status, 429, "it has the head of its answer, not all of it");
    // Nobody reads it any more.
    drop(slow);
    under_way(&gateway, 0).await;
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_may_be_of_the_route_and_a_reload_keeps_what_is_under_way() {
    let (service, leave) = waiting().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let write = |more: &str| {
        let text = format!(
            "{}upstreams: {{web: {{endpoints: ['{service}']}}}}\n\
             routes:\n\
             - {{match: {{path: /}}, proxy: web, concurrency: {{requests: 1, key: route}}}}\n\
             - {{match: {{path: /free}}, respond: {{status: 200}}}}\n{more}",
            crate::running::LISTENER
        );
        std::fs::write(&file, text).unwrap();
    };
    write("");
    let gateway = Running::watching(&file).await;
    let (first, ()) = tokio::join!(gateway.get("/"), async {
        under_way(&gateway, 1).await;
        write("timeout: 14s\n");
        eventually("it is reloaded", BOUND, async || (gateway.ops("/config").await["generation"] == 2).then_some(()))
            .await;
        assert_eq!(gateway.get("/").await.status, 429);
        assert_eq!(gateway.get("/free").await.status, 200);
        leave.add_permits(1);
    });
    assert_eq!(first.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let gateway = Running::start(
        "limits: {connections_per_address: 5}\nroutes: [{match: {path: /}, respond: {status: 200, body: in}}]\n",
    )
    .await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(connected(&gateway).await.unwrap());
    }
    assert!(connected(&gateway).await.is_none(), "one too many");
    assert!(telemetry::render().contains("turnpike_gateway_connections_refused_total{reason=\"address\""));
    drop(open.pop());
    eventually("there is room again", BOUND, async || connected(&gateway).await.map(drop)).await;
    gateway.stop().await;
}

/// A connection on which a request was answered, if it is one.
async fn connected(gateway: &Running) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    _ = socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"in") {
        if socket.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(socket)
}

#[tokio::test]
async fn ones_own_machine_has_as_many_connections_as_it_likes() {
    let gateway = Running::start("routes: [{match: {path: /}, respond: {status: 200, body: in}}]\n").await;
    let mut open = Vec::new();
    for _ in 0..120 {
        open.push(connected(&gateway).await.unwrap());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_on_nothing_is_refused() {
    let error = |section: &str| {
        let text = format!("{}routes: []\n{section}", crate::running::LISTENER);
        gateway::check(&text, &gateway::Properties::new(), None, &std::collections::BTreeMap::new()).unwrap_err()
    };
    for section in ["concurrency: {requests: 0, key: route}\n", "concurrency: {requests: 1, key: nobody}\n"] {
        assert_eq!(error(section).len(), 1, "{section}");
    }
}
