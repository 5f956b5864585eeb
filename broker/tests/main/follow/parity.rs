//! A publish by WebSocket is answered as one over HTTP is.

use serde_json::{Value, json};

use crate::site::{SOON, Site};

/// What both answer the same of: not whose id and place it is.
fn comparable(mut answer: Value) -> Value {
    if let Some(members) = answer.as_object_mut() {
        members.remove("cursor");
        members.remove("id");
    }
    answer
}

#[tokio::test]
async fn the_same_publish_has_the_same_answer() {
    let site = Site::start().await;
    let name = |text: &str| events::Name::new(text).unwrap();
    site.bus.declare_queue(bus::Queue { latest: true, ..bus::Queue::new(name("KEYS")) }).await.unwrap();
    let alice = site.alice();
    let token = site.token("alice", &["events:write:*/*", "events:read:*/*"]);
    let mut ws = crate::follow::lab::Ws::open(site.address, &token).await;
    alice.post("/events/KEYS/SET?key=k&id=first", "1").await.json(201);
    let cases = [
        json!({ "queue": "DB", "event": "CREATE", "subject": "products/1", "priority": 7, "data": { "a": 1 } }),
        json!({ "queue": "DB", "event": "CREATE", "confirm": "fsynced" }),
        json!({ "queue": "DB", "event": "CREATE", "confirm": "replicated:2" }),
        json!({ "queue": "DB", "event": "CREATE", "confirm": "replicated:2", "allow_degraded": true }),
        json!({ "queue": "DB", "event": "CREATE", "confirm": "delivered:nobody", "timeout": "50ms" }),
        json!({ "queue": "DB", "event": "CREATE", "confirm": "delivered", "respond_async": true }),
        json!({ "queue": "DB", "event": "CREATE", "replyto": "queue:ACKS" }),
        json!({ "queue": "DB", "event": "CREATE", "replyto": "nonsense" }),
        json!({ "queue": "DB", "event": "CREATE", "deliverytime": "2090-01-01T00:00:00Z" }),
        json!({ "queue": "KEYS", "event": "SET", "partitionkey": "k", "expectedversion": 9 }),
        json!({ "queue": "KEYS", "event": "SET", "partitionkey": "k", "id": "first" }),
        json!({ "queue": "SYS", "event": "CREATE" }),
    ];
    for case in cases {
        let mut attributes = case.clone();
        let members = attributes.as_object_mut().unwrap();
        let mut query = Vec::new();
        for name in ["confirm", "timeout", "allow_degraded"] {
            if let Some(value) = members.remove(name) {
                query.push(format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
            }
        }
        let is_async = members.remove("respond_async").is_some();
        members.insert("specversion".to_owned(), "1.0".into());
        let http = alice.with("content-type", "application/cloudevents+json");
        let http = if is_async { http.with("prefer", "respond-async") } else { http };
        let answer = http.post(&format!("/events?{}", query.join("&")), attributes.to_string()).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();

        ws.send(json!({ "id": 1, "pub": case })).await;
        let mut frame = ws.next().await;
        if answer.status.is_success() {
            let mut told = frame["ok"].take();
            // Times are those of each.
            assert_eq!(told["due"].is_string(), body["due"].is_string(), "{case}");
            told["due"] = body["due"].clone();
            let mut body = body;
            body["due"] = told["due"].clone();
            assert_eq!(comparable(told), comparable(body), "{case}");
        } else {
            let error = frame["error"].take();
            assert!(
                body["type"].as_str().unwrap().ends_with(error["code"].as_str().unwrap()),
                "{case}: {error} {body}"
            );
            assert!(error["detail"].as_str().unwrap().contains(body["detail"].as_str().unwrap()), "{error} {body}");
            assert_eq!(error["current"], body["current"], "{case}");
        }
    }
}

#[tokio::test]
async fn a_publish_that_waits_is_answered_once_it_is_delivered_and_a_receipt_comes_later() {
    let site = Site::start().await;
    let token = site.token("alice", &["events:write:*/*", "events:read:*/*"]);
    let mut ws = crate::follow::lab::Ws::open(site.address, &token).await;
    ws.subscribe("acks", "ACKS/*", "latest", 16).await;
    ws.send(json!({ "id": "waits", "pub": { "queue": "DB", "event": "CREATE", "id": "e1", "confirm": "delivered",
        "timeout": "30s", "replyto": "queue:ACKS" } }))
        .await;
    ws.send(json!({ "id": "quick", "pub": { "queue": "OTHER", "event": "CREATE" } })).await;
    let answered = async |ws: &mut crate::follow::lab::Ws, id: &str| loop {
        let frame = ws.next().await;
        if frame["id"] == id {
            return frame;
        }
    };
    assert!(answered(&mut ws, "quick").await["ok"].is_object(), "it holds up none");
    // Nobody is there yet: it waits for somebody to come.
    let group = bus::Group::new("logger", "DB/*".parse().unwrap(), bus::Mode::Parallel);
    site.bus.declare_group(group).await.unwrap();
    let leased = testkit::eventually("it is claimed", SOON, || async {
        let (group, member) = ("logger".to_owned(), "m1".to_owned());
        site.bus.claim(bus::Claim { group, member, max: 10, bytes: 1 << 20 }).await.ok()?.leased.pop()
    })
    .await;
    let settled = bus::Settlement { token: leased.token, verb: bus::Verb::Ack };
    site.bus.settle("logger", vec![settled]).await.unwrap()[0].unwrap();
    // The answer and the receipt may come in either order.
    let (mut answer, mut receipt) = (None, None);
    while answer.is_none() || receipt.is_none() {
        let frame = ws.next().await;
        if frame["id"] == "waits" {
            answer = Some(frame);
        } else if frame["ev"].is_object() {
            receipt = Some(frame["ev"].clone());
        }
    }
    let (answer, receipt) = (answer.unwrap(), receipt.unwrap());
    assert_eq!((&answer["ok"]["confirm"], &answer["ok"]["groups"]["logger"]), (&json!("delivered"), &json!("acked")));
    assert_eq!(receipt["event"]["queue"], "ACKS", "{receipt}");
}
