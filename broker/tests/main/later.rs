//! Events that are recorded later, and events that expect a version.

use http::Method;
use serde_json::{Value, json};
use testkit::eventually;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::site::Site;

fn at(after: Duration) -> String {
    (OffsetDateTime::now_utc() + after).format(&Rfc3339).unwrap()
}

#[tokio::test]
async fn a_scheduled_event_says_so_until_it_is_recorded() {
    let site = Site::start().await;
    let alice = site.alice();
    let due = at(Duration::seconds(1));
    let path = format!("/events/DB/CREATE?id=a&key=k&deliverytime={due}");
    let answer = alice.post(&path, "{}").await;
    let receipt = answer.json(202);
    assert_eq!((&receipt["reason"], &receipt["cursor"]), (&json!("scheduled"), &Value::Null));
    assert!(receipt["due"].is_string(), "{receipt}");
    let status = answer.header("location").unwrap().to_owned();
    assert_eq!(status, "/events/a/status?queue=DB");
    let again = alice.post(&path, "{}").await.json(202);
    assert_eq!((&again["duplicate"], &again["due"]), (&json!(true), &receipt["due"]));
    eventually("it is recorded", std::time::Duration::from_secs(30), async || {
        let told = alice.get(&status).await.json(200);
        (told["delivery"] != "scheduled").then_some(())
    })
    .await;
    let event = alice.get("/events/a?queue=DB").await.json(200);
    assert_eq!(event["id"], "a");
    assert!(event["recordedtime"].as_str().unwrap() >= due.as_str().split('.').next().unwrap());
    let detail = alice.send(Method::DELETE, "/events/a?queue=DB", "").await.problem(409);
    assert!(detail.contains("recorded already"), "{detail}");
}

#[tokio::test]
async fn a_scheduled_event_is_cancelled_by_its_publisher() {
    let site = Site::start().await;
    let (alice, operator) = (site.alice(), site.operator());
    let due = at(Duration::hours(1));
    for id in ["a", "b"] {
        alice.post(&format!("/events/DB/CREATE?id={id}&deliverytime={due}"), "{}").await.json(202);
    }
    assert_eq!(alice.get("/events/a/status?queue=DB").await.json(200)["delivery"], "scheduled");
    alice.get("/events/a?queue=DB").await.problem(404);
    let list = operator.get("/queues/DB/scheduled").await.json(200);
    assert_eq!(list["scheduled"].as_array().unwrap().len(), 2);
    assert_eq!(operator.get("/queues/DB").await.json(200)["partitions"][0]["scheduled"], 2);
    let next = list["next"].as_str().unwrap();
    let rest = operator.get(&format!("/queues/DB/scheduled?after={next}")).await.json(200);
    assert!(rest["scheduled"].as_array().unwrap().is_empty());
    operator.get("/queues/DB/scheduled?after=x").await.problem(400);
    alice.get("/queues/DB/scheduled").await.problem(403);

    let delete = async |client: &crate::site::Client, path: &str| client.send(Method::DELETE, path, "").await;
    delete(&alice, "/events/a").await.problem(400);
    delete(&site.anonymous(), "/events/a?queue=DB").await.problem(401);
    let bob = site.client("bob", &["events:write:DB/*"]);
    assert_eq!(delete(&bob, "/events/a?queue=DB").await.status, 204, "bob has none of that id");
    delete(&bob, "/events/a?queue=DB&source=/clients/alice").await.problem(403);
    for _ in 0..2 {
        assert_eq!(delete(&alice, "/events/a?queue=DB").await.status, 204);
    }
    alice.get("/events/a/status?queue=DB").await.problem(404);
    assert_eq!(delete(&operator, "/events/b?queue=DB&source=/clients/alice").await.status, 204);
    assert!(site.log("DB").await.is_empty());
}

#[tokio::test]
async fn a_stale_version_is_told_the_current_one() {
    let site = Site::start().await;
    let (alice, operator) = (site.alice(), site.operator());
    alice.post("/events/DB/CREATE?key=k&expectedversion=0", "{}").await.problem(400);
    operator.send(Method::PUT, "/queues/DB", r#"{"latest":true}"#).await.json(201);
    alice.post("/events/DB/CREATE?key=k&expectedversion=0", "{}").await.json(201);
    let answer = alice.post("/events/DB/UPDATE?key=k&expectedversion=0", "{}").await;
    answer.problem(409);
    assert_eq!(answer.json(409)["current"], 1);
    let event = |id: &str, version: u64| {
        json!({"specversion": "1.0", "id": id, "type": "t", "queue": "DB", "event": "UPDATE", "partitionkey": "k",
            "expectedversion": version})
    };
    let other = json!({"specversion": "1.0", "id": "c", "type": "t", "queue": "ORDERS", "event": "UPDATE"});
    let batch = alice.with("content-type", "application/cloudevents-batch+json");
    let mixed = batch.post("/events", json!([event("a", 1), event("b", 1), other]).to_string()).await.json(207);
    assert_eq!(mixed["events"][1]["error"]["current"], 2, "{mixed}");
    let both = batch.post("/events", json!([event("a", 1), event("b", 2)]).to_string()).await.json(201);
    assert_eq!(both["events"].as_array().unwrap().len(), 2);
    assert_eq!(site.log("DB").await.len(), 3);
}
