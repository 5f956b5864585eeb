//! Who is online: by whatever transport, at whatever node.

use http_body_util::BodyExt as _;
use principal::METADATA;
use serde_json::{Value, json};
use testkit::eventually;

use super::lab::{Lab, Running};
use crate::site::SOON;

const SEER: &[&str] = &["presence:read", "events:read:DB/*"];

async fn look(broker: &Running, token: &str, users: &str) -> Vec<Value> {
    let response = broker.get(&format!("/presence?users={users}"), &[(METADATA, token)]).await;
    assert_eq!(response.status().as_u16(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    serde_json::from_value(answer["users"].take()).unwrap()
}

async fn until(broker: &Running, token: &str, user: &str, online: bool, connections: u64) {
    eventually(&format!("{user} is online: {online}, by {connections}"), SOON, || async {
        let shown = look(broker, token, user).await.remove(0);
        (shown["online"] == online && shown["connections"] == connections).then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_devices_are_one_user() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let (seer, alice) = (lab.token("seer", SEER), lab.token("alice", SEER));
    let mut ws = broker.ws(&seer).await;
    ws.subscribe("s", "PRESENCE/*[subject=alice]", "latest", 256).await;
    let (mut phone, mut laptop) = (broker.ws(&alice).await, broker.ws(&alice).await);
    let stream = broker.sse(&alice, "filter=DB/*", None).await;
    until(&broker, &seer, "alice", true, 3).await;
    let told = ws.event().await;
    assert_eq!((&told["event"]["event"], &told["event"]["owner"]), (&json!("ONLINE"), &json!("alice")));
    let shown = look(&broker, &seer, "alice,nobody,seer").await;
    assert!(shown[0]["since"].is_string() && shown[0]["last_seen"].is_null(), "{shown:?}");
    assert_eq!((&shown[1]["online"], &shown[2]["online"]), (&json!(false), &json!(true)));
    ws.send(json!({ "id": "p", "presence": { "users": ["alice"] } })).await;
    let answer = ws.next().await;
    assert_eq!((&answer["id"], &answer["ok"]["users"][0]["connections"]), (&json!("p"), &json!(3)));

    phone.send(json!({ "bye": {} })).await;
    until(&broker, &seer, "alice", true, 2).await;
    drop(stream);
    until(&broker, &seer, "alice", true, 1).await;
    laptop.send(json!({ "bye": {} })).await;
    until(&broker, &seer, "alice", true, 0).await;
    for _ in 0..16 {
        // The stream was cut, and may come back: for the time of grace.
        lab.later(std::time::Duration::from_secs(1));
        lab.bus.groups().await.unwrap();
    }
    until(&broker, &seer, "alice", false, 0).await;
    let told = ws.event().await;
    assert_eq!((&told["event"]["event"], &told["event"]["data"]["reason"]), (&json!("OFFLINE"), &json!("lost")));
    assert!(look(&broker, &seer, "alice").await[0]["last_seen"].is_string());
}

#[tokio::test]
async fn who_polls_is_online_from_poll_to_poll() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let (seer, alice) = (lab.token("seer", SEER), lab.token("alice", SEER));
    for _ in 0..3 {
        assert_eq!(broker.poll(&alice, "filter=DB/*&wait=50ms").await.status, 204);
    }
    until(&broker, &seer, "alice", true, 0).await;
    let polling = broker.poll(&alice, "filter=DB/*&wait=10s");
    let shown = until(&broker, &seer, "alice", true, 1);
    tokio::select! {
        polled = polling => panic!("nothing happens: {polled:?}"),
        () = shown => {}
    }
}

#[tokio::test]
async fn presence_is_for_whoever_may_see_it_and_of_whoever_is_signed_in() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let seer = lab.token("seer", SEER);
    let mut anonymous = broker.ws_anonymous().await;
    anonymous.send(json!({ "id": 1, "presence": { "users": ["seer"] } })).await;
    assert_eq!(anonymous.next().await["error"]["code"], "unauthenticated");
    // A socket whose first frame says who calls is theirs.
    let mut late = broker.ws_anonymous_silent().await;
    late.send(json!({ "hello": { "v": 1, "token": lab.token("alice", &[]) } })).await;
    assert!(late.next().await["welcome"].is_object());
    until(&broker, &seer, "alice", true, 1).await;
    for (token, path, status) in [
        (&lab.token("bob", &["events:read:DB/*"]), "/presence?users=alice", 403),
        (&seer, "/presence", 400),
        (&seer, "/presence?users=alice,,bob", 400),
        (&seer, "/presence?user=alice", 400),
        (&lab.token("bob", &["events:read:DB/*"]), "/events?filter=PRESENCE/*", 403),
    ] {
        let response = broker.get(path, &[(METADATA, token)]).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let many = vec!["a"; 257].join(",");
    let response = broker.get(&format!("/presence?users={many}"), &[(METADATA, &seer)]).await;
    assert_eq!(response.status().as_u16(), 400);
    let mut page_closed = broker.ws(&lab.token("carol", &[])).await;
    until(&broker, &seer, "carol", true, 1).await;
    page_closed.close(1001).await;
    until(&broker, &seer, "carol", true, 0).await;
    let mut left = broker.ws(&lab.token("dave", &[])).await;
    until(&broker, &seer, "dave", true, 1).await;
    left.close(1000).await;
    until(&broker, &seer, "dave", false, 0).await;
}
