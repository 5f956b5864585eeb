//! Durable subscriptions: the bus keeps their place, and any node goes on from there.

use std::time::Duration;

use http_body_util::BodyExt as _;
use principal::METADATA;
use serde_json::{Value, json};

use super::lab::{Lab, Running, Ws, id};
use crate::site::SOON;

/// Subscribes, and says what was answered.
async fn durable(ws: &mut Ws, name: &str, more: Value) -> Value {
    let mut sub = json!({ "name": name, "filter": "DB/*", "durable": true });
    sub.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ws.send(json!({ "id": "d", "sub": sub })).await;
    loop {
        let mut answer = ws.next().await;
        if answer["id"] == "d" {
            assert!(answer["ok"].is_object(), "{answer}");
            return answer["ok"].take();
        }
    }
}

async fn listed(broker: &Running, token: &str) -> Vec<Value> {
    let answer = broker.get("/subscriptions", &[(METADATA, token)]).await;
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let mut listed: Value = serde_json::from_slice(&body).unwrap();
    listed["subscriptions"].take().as_array().unwrap().clone()
}

/// What it is told at the end of a durable subscription.
async fn ended(ws: &mut Ws) -> Value {
    loop {
        let mut frame = ws.next().await;
        if frame["ended"].is_object() {
            return frame["ended"].take();
        }
    }
}

/// Until the place has been written.
async fn written(lab: &Lab, name: &str, moved: impl Fn(&str) -> bool) {
    testkit::eventually("the place is written", SOON, || async {
        let kept = lab.bus.bookmarks("alice").await.unwrap();
        kept.iter().any(|one| one.name == name && one.cursor.as_deref().is_some_and(&moved)).then_some(())
    })
    .await;
}

async fn place(lab: &Lab, name: &str) -> Option<String> {
    lab.bus.bookmarks("alice").await.unwrap().into_iter().find(|one| one.name == name)?.cursor
}

#[tokio::test]
async fn it_goes_on_where_it_was_acknowledged_at_any_node() {
    let lab = Lab::open().await;
    let (one, other, alice) = (lab.broker().await, lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..2).await;
    let mut ws = one.ws(&alice).await;
    assert_eq!(durable(&mut ws, "d", json!({ "cursor": "earliest" })).await["resumed"], false);
    let began = place(&lab, "d").await;
    let told = ws.take("d", 2).await;
    assert!(told.iter().map(id).eq(["0", "1"]));
    written(&lab, "d", |cursor| Some(cursor) != began.as_deref()).await;
    lab.publish("DB/CREATE", 2..4).await;
    // Told, and not acknowledged.
    assert_eq!((id(&ws.event().await), id(&ws.event().await)), ("2", "3"));
    drop(ws);

    let mut ws = other.ws(&alice).await;
    let ok = durable(&mut ws, "d", json!({})).await;
    assert_eq!((&ok["resumed"], &ok["replaying"]), (&json!(true), &json!(2)), "{ok}");
    assert!(ws.take("d", 2).await.iter().map(id).eq(["2", "3"]));
    // A node that stops in order writes what was acknowledged last.
    drop(ws);
    other.stop(Duration::from_secs(1)).await;
    let mut ws = one.ws(&alice).await;
    assert_eq!(durable(&mut ws, "d", json!({})).await["replaying"], 0);
    // A cursor of its own goes over the place that is kept.
    let mut second = one.ws(&alice).await;
    let ok = durable(&mut second, "e", json!({ "cursor": told[0]["cursor"] })).await;
    assert_eq!((&ok["resumed"], &ok["replaying"]), (&json!(false), &json!(3)), "{ok}");
}

#[tokio::test]
async fn the_last_to_come_has_it_and_the_other_is_told() {
    let lab = Lab::open().await;
    let (one, other, alice) = (lab.broker().await, lab.broker().await, lab.alice());
    let (mut first, mut second) = (one.ws(&alice).await, other.ws(&alice).await);
    durable(&mut first, "d", json!({})).await;
    durable(&mut second, "d", json!({})).await;
    let bob = lab.token("bob", super::lab::ALL);
    durable(&mut one.ws(&bob).await, "d", json!({})).await;
    // Though it acknowledges nothing.
    assert_eq!(ended(&mut first).await, json!({ "sub": "d", "reason": "taken" }));
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(id(&second.event().await), "0", "whoever has it goes on");
    first.send(json!({ "id": 1, "unsub": { "sub": "d" } })).await;
    assert_eq!(first.next().await["error"]["code"], "not-found", "it is no subscription any more");
}

#[tokio::test]
async fn it_is_listed_and_removed_by_whom_it_belongs_to() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut ws = broker.ws(&alice).await;
    durable(&mut ws, "d", json!({})).await;
    testkit::eventually("it is listed with its place", SOON, || async {
        let listed = listed(&broker, &alice).await;
        (listed[0]["name"] == "d" && listed[0]["filter"] == "DB/*" && listed[0]["cursor"].is_string()).then_some(())
    })
    .await;
    let bob = lab.token("bob", super::lab::ALL);
    assert_eq!(listed(&broker, &bob).await, Vec::<Value>::new());
    let status = async |method: &str, path: &str, token: &str| {
        let answer = broker.send(method, path, &[(METADATA, token)]).await;
        answer.status().as_u16()
    };
    assert_eq!(status("DELETE", "/subscriptions/d", &bob).await, 404);
    assert_eq!(status("DELETE", "/subscriptions/d?user=alice", &bob).await, 403);
    assert_eq!(status("GET", "/subscriptions?user=alice", &lab.operator_who_reads()).await, 200);
    assert_eq!(status("DELETE", "/subscriptions/d", &alice).await, 204);
    assert_eq!(status("DELETE", "/subscriptions/d", &alice).await, 404);
    assert_eq!(ended(&mut ws).await, json!({ "sub": "d", "reason": "removed" }), "at this node");
    // At another one, too.
    let other = lab.broker().await;
    let mut ws = other.ws(&alice).await;
    durable(&mut ws, "d", json!({})).await;
    assert_eq!(status("DELETE", "/subscriptions/d", &alice).await, 204);
    assert_eq!(ended(&mut ws).await, json!({ "sub": "d", "reason": "removed" }));
}

#[tokio::test]
async fn of_two_at_one_node_one_has_it() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let (mut first, mut second) = (broker.ws(&alice).await, broker.ws(&alice).await);
    // Both at once: whichever of them was the last has it.
    for ws in [&mut first, &mut second] {
        ws.send(json!({ "id": "d", "sub": { "name": "d", "filter": "DB/*", "durable": true } })).await;
    }
    let (loser, mut winner) = tokio::select! {
        told = ended(&mut first) => (told, second),
        told = ended(&mut second) => (told, first),
    };
    assert_eq!(loser, json!({ "sub": "d", "reason": "taken" }));
    written(&lab, "d", |_| true).await;
    let began = place(&lab, "d").await;
    lab.publish("DB/CREATE", 0..1).await;
    let told = winner.event().await;
    winner.ack("d", &told["cursor"]).await;
    written(&lab, "d", |cursor| Some(cursor) != began.as_deref()).await;
}

#[tokio::test]
async fn nobody_in_particular_has_none() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    assert_eq!(broker.get("/subscriptions", &[]).await.status(), 401);
    let mut ws = broker.ws(&lab.token("alice", &["events:read:ORDERS/*"])).await;
    ws.send(json!({ "id": 1, "sub": { "name": "d", "filter": "DB/*", "durable": true } })).await;
    assert_eq!(ws.next().await["error"]["code"], "forbidden");
    assert_eq!(lab.bus.bookmarks("alice").await.unwrap(), [], "what may not be read is not kept");
}
