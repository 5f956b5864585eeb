//! Webhooks over HTTP: whose they are, what is shown of them, and what they make of publishing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State};
use broker::Settings;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use testkit::eventually;

use crate::site::{Client, SOON, Site};

/// Somebody else's server: answers with this status, and remembers.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    status: Arc<Mutex<u16>>,
    came: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Receiver {
    async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self { address, status: Arc::new(Mutex::new(status)), came: Arc::default() };
        let router = Router::new().fallback(Self::answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    async fn answer(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        receiver.came.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
        StatusCode::from_u16(*receiver.status.lock().unwrap()).unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn came(&self) -> Vec<(HeaderMap, Value)> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    async fn gets(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        eventually("requests came", SOON, || async { Some(self.came()).filter(|came| came.len() >= count) }).await
    }
}

async fn site() -> Site {
    Site::start_with(Settings { allow_private_networks: true, ..Settings::default() }).await
}

fn partner(site: &Site, name: &str) -> Client {
    site.client(name, &["webhooks:write", "webhooks:read", "events:read:ORDERS/*", "events:write:ORDERS/*"])
}

async fn register(client: &Client, body: Value) -> Value {
    client.post("/webhooks", body.to_string()).await.json(201)
}

#[tokio::test]
async fn a_webhook_is_registered_and_gets_events() {
    let (site, receiver) = (site().await, Receiver::start(204).await);
    let ann = partner(&site, "partners/ann");
    let made = register(&ann, json!({ "url": receiver.url(), "filter": "ORDERS/*", "ordered": true })).await;
    let id = made["id"].as_str().unwrap();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(
        (&made["owner"], &made["state"], &made["ack_within"]),
        (&json!("partners/ann"), &json!("enabled"), &json!("15m"))
    );
    ann.post("/events/ORDERS/PLACED?id=a&subject=orders/1", r#"{"total":5}"#).await.json(201);
    let (headers, event) = receiver.gets(1).await.remove(0);
    assert_eq!((&headers["webhook-id"], &event["data"]["total"]), (&"a".parse().unwrap(), &json!(5)));
    let shown = eventually("it is settled", SOON, || async {
        let shown = ann.get(&format!("/webhooks/{id}")).await.json(200);
        (shown["lag"] == 0 && !shown["last_success"].is_null()).then_some(shown)
    })
    .await;
    assert!(shown.get("secret").is_none(), "it was shown once");
    let attempts = ann.get(&format!("/webhooks/{id}/attempts")).await.json(200);
    assert_eq!(
        (&attempts["attempts"][0]["class"], &attempts["attempts"][0]["status"], &attempts["attempts"][0]["event"]),
        (&json!("delivered"), &json!(204), &json!("a"))
    );
    let tested = ann.post(&format!("/webhooks/{id}/test"), "").await.json(200);
    assert_eq!((&tested["attempt"], &tested["address"]), (&json!(0), &json!("SYS/WEBHOOK_TEST")));
    let rotated = ann.post(&format!("/webhooks/{id}/rotate"), "").await;
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    assert_ne!(rotated.json(200)["secret"], made["secret"]);
    let changed = ann.send(Method::PATCH, &format!("/webhooks/{id}"), json!({ "ack_within": null }).to_string()).await;
    assert_eq!((&changed.json(200)["ack_within"], &changed.json(200)["filter"]), (&Value::Null, &json!("ORDERS/*")));
    assert_eq!(ann.post(&format!("/webhooks/{id}/disable"), "").await.json(200)["reason"], "asked");
    ann.post("/events/ORDERS/PLACED?id=b", "{}").await.json(201);
    let rehearsed = ann.post(&format!("/webhooks/{id}/enable"), r#"{"from":"now","dry_run":true}"#).await.json(200);
    assert_eq!(
        (&rehearsed["count"], &rehearsed["skipped"], &rehearsed["dry_run"]),
        (&json!(0), &json!(1), &json!(true))
    );
    assert_eq!(ann.post(&format!("/webhooks/{id}/enable"), "").await.json(200)["count"], 1);
    receiver.gets(3).await;
    assert_eq!(ann.send(Method::DELETE, &format!("/webhooks/{id}"), "").await.status, 204);
    ann.get(&format!("/webhooks/{id}")).await.problem(404);
}

#[tokio::test]
async fn a_webhook_is_its_owners_and_the_operators_alone() {
    let (site, receiver) = (site().await, Receiver::start(204).await);
    let (ann, bob) = (partner(&site, "partners/ann"), partner(&site, "partners/bob"));
    let made = register(&ann, json!({ "url": receiver.url(), "filter": "ORDERS/*" })).await;
    let id = made["id"].as_str().unwrap();
    let count = |answer: Value| answer["webhooks"].as_array().unwrap().len();
    for (client, expected) in [(&ann, 1), (&bob, 0), (&site.operator(), 1)] {
        assert_eq!(count(client.get("/webhooks").await.json(200)), expected);
    }
    assert_eq!(count(bob.get("/webhooks?owner=partners/ann").await.json(200)), 0);
    assert_eq!(count(site.operator().get("/webhooks?owner=partners/bob").await.json(200)), 0);
    for path in ["", "/attempts"] {
        bob.get(&format!("/webhooks/{id}{path}")).await.problem(404);
    }
    for verb in ["enable", "disable", "test", "rotate"] {
        bob.post(&format!("/webhooks/{id}/{verb}"), "").await.problem(404);
    }
    bob.send(Method::DELETE, &format!("/webhooks/{id}"), "").await.problem(404);
    let reader = site.client("partners/ann", &["webhooks:read"]);
    reader.get(&format!("/webhooks/{id}")).await.json(200);
    reader.post(&format!("/webhooks/{id}/rotate"), "").await.problem(403);
    site.anonymous().get("/webhooks").await.problem(401);
    site.alice().get("/webhooks").await.problem(403);
    site.operator().post(&format!("/webhooks/{id}/disable"), "").await.json(200);
}

#[tokio::test]
async fn a_webhook_gets_no_more_than_its_owner_may_read() {
    let (site, receiver) = (site().await, Receiver::start(204).await);
    let ann = partner(&site, "partners/ann");
    let body = |filter: &str| json!({ "url": receiver.url(), "filter": filter }).to_string();
    let detail = ann.post("/webhooks", body("ORDERS/*,DB/*")).await.problem(403);
    assert!(detail.contains("events:read:DB/*"), "{detail}");
    let scopes = ["webhooks:write", "events:read:own:NOTES/*", "events:write:NOTES/*"];
    let (carl, dora) = (site.client("carl", &scopes), site.client("dora", &scopes));
    let made = register(&carl, json!({ "url": receiver.url(), "filter": "NOTES/*" })).await;
    assert!(made["filter"].as_str().unwrap().contains("owner=carl"), "{made}");
    dora.post("/events/NOTES/WRITTEN?id=hers", "{}").await.json(201);
    carl.post("/events/NOTES/WRITTEN?id=his", "{}").await.json(201);
    assert_eq!(receiver.gets(1).await[0].1["id"], "his");
    assert_eq!(receiver.came().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let site = Site::start().await;
    let ann = partner(&site, "partners/ann");
    for (body, field) in [
        (json!({ "filter": "ORDERS/*" }), "url"),
        (json!({ "url": "https://example.com", "filter": "ORDERS" }), "filter"),
        (json!({ "url": "http://example.com", "filter": "ORDERS/*" }), "url: must be an https"),
        (json!({ "url": "https://10.0.0.1/", "filter": "ORDERS/*" }), "url: is not an address of the public"),
        (json!({ "url": "https://example.com", "filter": "ORDERS/*", "ack_within": "1d" }), "ack_within"),
        (json!({ "url": "https://example.com", "filter": "ORDERS/*", "from": "soon" }), "from"),
        (json!({ "url": "https://example.com", "filter": "ORDERS/*", "secret": "x" }), "secret"),
        (json!({ "url": "https://example.com", "filter": "ORDERS/*", "colour": "red" }), "colour"),
    ] {
        let detail = ann.post("/webhooks", body.to_string()).await.problem(400);
        assert!(detail.contains(field), "{detail}");
    }
    ann.get("/webhooks/wh_nobody").await.problem(404);
    ann.get("/webhooks?colour=red").await.problem(400);
    site.anonymous().post("/webhooks/ack/nothing", "").await.problem(404);
}

#[tokio::test]
async fn a_receiver_acknowledges_later_without_being_anybody() {
    let (site, receiver) = (site().await, Receiver::start(202).await);
    let ann = partner(&site, "partners/ann");
    let made = register(&ann, json!({ "url": receiver.url(), "filter": "ORDERS/*" })).await;
    let publishing = {
        let ann = ann.clone();
        tokio::spawn(
            async move { ann.post("/events/ORDERS/PLACED?confirm=delivered&timeout=60s", "{}").await.json(201) },
        )
    };
    let (headers, _) = receiver.gets(1).await.remove(0);
    let path = headers["turnpike-ack-url"].to_str().unwrap().to_owned();
    assert_eq!(site.anonymous().post(&path, r#"{"ok":true}"#).await.status, 204);
    assert_eq!(publishing.await.unwrap()["confirm"], "delivered");
    let attempts = ann.get(&format!("/webhooks/{}/attempts", made["id"].as_str().unwrap())).await.json(200);
    assert_eq!(attempts["attempts"][0]["class"], "accepted");
}

#[tokio::test]
async fn receipts_come_to_a_webhook_of_ones_own_in_order() {
    let (site, receiver) = (site().await, Receiver::start(204).await);
    let teller = Receiver::start(204).await;
    let (ann, bob) = (partner(&site, "partners/ann"), partner(&site, "partners/bob"));
    register(&ann, json!({ "url": receiver.url(), "filter": "ORDERS/*", "ordered": true })).await;
    let told = register(&ann, json!({ "url": teller.url(), "filter": "ORDERS/NEVER", "ordered": true })).await;
    let to = told["id"].as_str().unwrap();
    for n in 0..100 {
        let path = format!("/events/ORDERS/PLACED?id=e{n:03}&key=k&reply_to=webhook:{to}");
        let answer = ann.post(&path, "{}").await;
        assert!(answer.header("location").unwrap().ends_with("/status"));
        answer.json(202);
    }
    let detail = bob.post(&format!("/events/ORDERS/PLACED?reply_to=webhook:{to}"), "{}").await.problem(400);
    assert!(detail.starts_with("replyto: no webhook"), "{detail}");
    let came = eventually("a receipt each", Duration::from_secs(60), || async {
        Some(teller.came()).filter(|came| came.len() >= 100)
    })
    .await;
    let ids: Vec<&str> = came.iter().map(|(_, event)| event["data"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, (0..100).map(|n| format!("e{n:03}")).collect::<Vec<_>>());
    assert!(came.iter().all(|(_, event)| event["queue"] == "RECEIPT" && event["event"] == "COMPLETED"));
}
