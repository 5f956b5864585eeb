//! A publisher that waits until its event was delivered, and one that is told later: by HTTP, by WebSocket and by gRPC, with a webhook
//! as the one who takes it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State};
use broker::Settings;
use http::StatusCode;
use proto::turnpike::bus::v1::{self as wire, Level, outcome::Outcome};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::sync::Semaphore;

use crate::{
    follow::lab::Ws,
    grpc::fleet::{self, event, grpc},
    site::{Client, SOON, Site},
};

const SCOPES: [&str; 4] = ["webhooks:write", "webhooks:read", "events:read:ORDERS/*", "events:write:ORDERS/*"];
/// A hundred events and a hundred receipts, one after another, on a machine that does more than that.
const A_HUNDRED: Duration = Duration::from_secs(60);

/// Somebody else's server: answers as many requests as it is let.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Semaphore>,
}

impl Receiver {
    async fn start(answers: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self { address, came: Arc::default(), answers: Arc::new(Semaphore::new(answers)) };
        let router = Router::new().fallback(Self::answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    async fn answer(State(receiver): State<Self>, body: Bytes) -> StatusCode {
        receiver.came.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        receiver.answers.acquire().await.unwrap().forget();
        StatusCode::OK
    }

    /// Registers it; its id.
    async fn register(&self, client: &Client, filter: &str, ordered: bool) -> String {
        let url = format!("http://{}/hook", self.address);
        let endpoint = json!({ "url": url, "filter": filter, "ordered": ordered }).to_string();
        client.post("/webhooks", endpoint).await.json(201)["id"].as_str().unwrap().to_owned()
    }

    /// The first so many that come.
    async fn gets(&self, count: usize, within: Duration) -> Vec<Value> {
        eventually(&format!("{count} requests came"), within, || async {
            Some(self.came.lock().unwrap().clone()).filter(|came| came.len() >= count)
        })
        .await
    }
}

async fn site() -> Site {
    Site::start_with(Settings { allow_private_networks: true, ..Settings::default() }).await
}

fn receipt(response: wire::PublishResponse) -> wire::Receipt {
    match response.outcomes.into_iter().next().and_then(|outcome| outcome.outcome) {
        Some(Outcome::Receipt(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

#[tokio::test]
async fn a_publish_is_held_until_a_webhook_comes_and_answers() {
    let (site, receiver) = (site().await, Receiver::start(0).await);
    let (ann, token) = (site.client("partners/ann", &SCOPES), site.token("partners/ann", &SCOPES));
    let by_http = {
        let ann = ann.clone();
        tokio::spawn(async move { ann.post("/events/ORDERS/PLACED?id=http&confirm=delivered&timeout=60s", "{}").await })
    };
    let mut ws = Ws::open(site.address, &token).await;
    ws.send(json!({ "id": 1, "pub": { "queue": "ORDERS", "event": "PLACED", "id": "ws", "confirm": "delivered",
        "timeout": "60s" } }))
        .await;
    let by_ws = tokio::spawn(async move { ws.next_within(Duration::from_secs(90)).await });
    let by_grpc = {
        let mut client = grpc(site.address, &token).await;
        let timeout = Some(Duration::from_secs(60).try_into().unwrap());
        let confirm = Some(wire::Confirm { level: Level::Delivered.into(), timeout, ..wire::Confirm::default() });
        let request = wire::PublishRequest { events: vec![event("ORDERS/PLACED", "grpc")], confirm };
        tokio::spawn(async move { client.publish(request).await.unwrap().into_inner() })
    };
    let is_held = || !by_http.is_finished() && !by_ws.is_finished() && !by_grpc.is_finished();

    eventually("all are recorded", SOON, || async { (site.log("ORDERS").await.len() == 3).then_some(()) }).await;
    for id in ["http", "ws", "grpc"] {
        let status = ann.get(&format!("/events/{id}/status?queue=ORDERS")).await.json(200);
        assert_eq!(status["delivery"], "nobody", "{id}");
    }
    assert!(is_held(), "nobody is there");
    let webhook = receiver.register(&ann, "ORDERS/*", false).await;
    receiver.gets(3, SOON).await;
    assert!(is_held(), "it has not answered");
    receiver.answers.add_permits(3);

    let http = by_http.await.unwrap().json(201);
    assert_eq!((&http["id"], &http["confirm"]), (&json!("http"), &json!("delivered")));
    let ws = by_ws.await.unwrap()["ok"].take();
    assert_eq!((&ws["id"], &ws["confirm"]), (&json!("ws"), &json!("delivered")));
    assert_eq!(ws["groups"], http["groups"]);
    let groups: BTreeMap<String, String> = serde_json::from_value(http["groups"].clone()).unwrap();
    assert!(groups.len() == 1 && groups.values().all(|standing| standing == "acked"), "{groups:?}");
    assert!(groups.keys().all(|group| group.contains(&webhook)), "{groups:?}");
    let by_grpc = receipt(by_grpc.await.unwrap());
    assert_eq!((by_grpc.id.as_str(), by_grpc.level()), ("grpc", Level::Delivered));
    assert!(by_grpc.groups.keys().eq(groups.keys()));
}

#[tokio::test]
async fn a_hundred_by_each_way_are_accepted_and_their_receipts_come_in_order() {
    let (site, worker, teller) = (site().await, Receiver::start(1_000).await, Receiver::start(1_000).await);
    let (ann, token) = (site.client("partners/ann", &SCOPES), site.token("partners/ann", &SCOPES));
    worker.register(&ann, "ORDERS/*", true).await;
    let to = format!("webhook:{}", teller.register(&ann, "ORDERS/NEVER", true).await);

    let mut ws = Ws::open(site.address, &token).await;
    for n in 0..100 {
        ws.send(json!({ "id": n, "pub": { "queue": "ORDERS", "event": "PLACED", "id": format!("ws{n:03}"),
            "partitionkey": "ws", "replyto": to } }))
            .await;
        let answer = ws.next().await["ok"].take();
        assert_eq!((&answer["confirm"], &answer["groups"]), (&json!("stored"), &Value::Null));
    }
    let mut client: fleet::Client = grpc(site.address, &token).await;
    for n in 0..100 {
        let id = format!("grpc{n:03}");
        let event =
            wire::Event { partition_key: "grpc".to_owned(), reply_to: to.clone(), ..event("ORDERS/PLACED", &id) };
        let request = wire::PublishRequest { events: vec![event], confirm: None };
        assert_eq!(receipt(client.publish(request).await.unwrap().into_inner()).level(), Level::Stored);
    }

    let came = teller.gets(200, A_HUNDRED).await;
    assert!(came.iter().all(|event| event["queue"] == "RECEIPT" && event["event"] == "COMPLETED"), "{came:?}");
    let receipts: Vec<&str> = came.iter().map(|event| event["data"]["id"].as_str().unwrap()).collect();
    let worked = worker.gets(200, SOON).await;
    let worked: Vec<&str> = worked.iter().map(|event| event["id"].as_str().unwrap()).collect();
    for way in ["ws", "grpc"] {
        let expected: Vec<String> = (0..100).map(|n| format!("{way}{n:03}")).collect();
        for (what, ids) in [("receipts", &receipts), ("events", &worked)] {
            let ids: Vec<&&str> = ids.iter().filter(|id| id.starts_with(way)).collect();
            assert!(ids.iter().map(|id| **id).eq(expected.iter().map(String::as_str)), "{what} by {way}: {ids:?}");
        }
    }
}
