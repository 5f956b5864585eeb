//! A socket's other frames: publishing, leaving, who is there, and where it is.

use std::time::Duration;

use broker::Settings;
use bus::Transport;
use serde_json::json;
use testkit::eventually;

use super::lab::{Lab, id};
use crate::site::SOON;

#[tokio::test]
async fn who_closes_is_answered() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut ws = broker.ws(&lab.alice()).await;
    ws.subscribe("s", "CHAT/*", "latest", 256).await;
    ws.close(1000).await;
    assert_eq!(ws.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn what_is_published_over_a_socket_is_told_to_all() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let (mut ws, mut other) = (broker.ws(&alice).await, broker.ws(&alice).await);
    other.subscribe("s", "CHAT/*", "latest", 256).await;
    for n in 0..20 {
        let publish =
            json!({ "queue": "CHAT", "event": "SAID", "id": format!("m{n}"), "subject": "lobby", "data": { "n": n } });
        ws.send(json!({ "id": n, "pub": publish })).await;
    }
    for n in 0..20 {
        let answer = ws.next().await;
        assert_eq!(
            (&answer["id"], &answer["ok"]["id"], &answer["ok"]["confirm"]),
            (&json!(n), &json!(format!("m{n}")), &json!("stored")),
            "{answer}"
        );
    }
    for n in 0..20 {
        let event = other.event().await;
        assert_eq!((id(&event), &event["event"]["data"]["n"]), (format!("m{n}").as_str(), &json!(n)), "in their order");
    }
    let mut reader = broker.ws(&lab.token("reader", &["events:read:*/*"])).await;
    reader.send(json!({ "id": 1, "pub": { "queue": "CHAT", "event": "SAID" } })).await;
    assert_eq!(reader.next().await["error"]["code"], "forbidden");
}

#[tokio::test]
async fn the_roster_knows_who_follows_what() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s1", "DB/*", "latest", 256).await;
    ws.subscribe("s2", "ORDERS/{A,B}", "latest", 256).await;
    let here = lab.bus.roster().here();
    assert_eq!(here.len(), 1);
    assert_eq!(
        (here[0].transport, here[0].subject.as_deref(), here[0].address.as_deref()),
        (Transport::WebSocket, Some("alice"), Some("203.0.113.7"))
    );
    let follows: Vec<_> = here[0].subscriptions.iter().map(|sub| (sub.name.as_str(), sub.filter.as_str())).collect();
    assert_eq!(follows, [("s1", "DB/*"), ("s2", "ORDERS/{A,B}")]);
    ws.send(json!({ "id": 9, "unsub": { "sub": "s1" } })).await;
    while ws.next().await["id"] != 9 {}
    assert_eq!(lab.bus.roster().here()[0].subscriptions.len(), 1);
    ws.send(json!({ "bye": {} })).await;
    assert_eq!(ws.closed().await.0, 1000);
    eventually("nobody is there", SOON, || async { lab.bus.roster().here().is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn an_idle_subscription_is_told_where_it_is() {
    let lab = Lab::open().await;
    let settings = Settings {
        cursor_every: Duration::from_millis(100),
        heartbeat: Duration::from_millis(30),
        ..Settings::default()
    };
    let (broker, alice) = (lab.broker_with(settings).await, lab.alice());
    let mut ws = broker.ws(&alice).await;
    let begin = ws.subscribe("s", "DB/DELETE", "latest", 1).await["cursor"].take();
    lab.publish("DB/CREATE", 0..3).await;
    let end = broker.poll(&alice, "filter=DB/*&from=earliest").await.cursor;
    let mut cursor = begin;
    while cursor != end.as_str() {
        let mut frame = ws.next().await;
        if frame["cursor"].is_object() {
            cursor = frame["cursor"]["cursor"].take();
        }
    }
    ws.ack("s", &cursor).await;
    let mut stream = broker.sse(&alice, "filter=DB/DELETE", None).await;
    while stream.next().await.unwrap().event != "cursor" {}
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_dead() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { ping: Duration::from_millis(50), ..Settings::default() }).await;
    let ws = broker.ws(&lab.alice()).await;
    // Nobody reads it, so nobody answers.
    eventually("it is given up", SOON, || async { lab.bus.roster().here().is_empty().then_some(()) }).await;
    drop(ws);
}
