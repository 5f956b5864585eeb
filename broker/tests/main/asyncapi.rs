//! `/asyncapi.json` is good by the official schema, and shows a caller what it may read and publish to.

use http::Method;
use serde_json::{Value, json};

use crate::site::{Answer, Site};

/// The document of an answer, checked.
fn checked(answer: &Answer) -> Value {
    let document = answer.json(200);
    testkit::check_asyncapi(&document.to_string());
    document
}

fn names(part: &Value) -> Vec<&str> {
    part.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_caller_sees_its_queues_with_their_events() {
    let site = Site::start().await;
    for address in ["DB/CREATE", "DB/DELETE", "ORDERS/PLACED", "SECRET/TOLD"] {
        site.alice().post(&format!("/events/{address}"), "{}").await.json(201);
    }
    let scopes = ["events:read:DB/*", "events:write:ORDERS/PLACED", "events:consume:billing"];
    let bob = site.client("bob", &scopes).with("x-forwarded-host", "shop.example").with("x-forwarded-proto", "https");
    let declared = json!({"filter": "DB/{CREATE,UPDATE}"}).to_string();
    bob.send(Method::PUT, "/groups/billing", declared).await.json(200);

    let document = checked(&bob.get("/asyncapi.json").await);
    assert_eq!(names(&document["channels"]), ["queue.DB", "queue.ORDERS", "socket", "stream", "webhook"]);
    // What was seen, what a group names, and what else its scope covers.
    assert_eq!(names(&document["channels"]["queue.DB"]["messages"]), ["CREATE", "DELETE", "UPDATE", "any"]);
    assert_eq!(names(&document["channels"]["queue.ORDERS"]["messages"]), ["PLACED"]);
    let operations = names(&document["operations"]);
    assert_eq!(operations, ["deliver", "follow.DB", "hear", "publish.ORDERS", "stream", "tell"]);
    let server = &document["servers"]["socket"];
    assert_eq!((&server["host"], &server["protocol"]), (&json!("shop.example"), &json!("wss")));
}

#[tokio::test]
async fn nobody_in_particular_sees_the_protocol_alone() {
    let site = Site::start().await;
    site.alice().post("/events/DB/CREATE", "{}").await.json(201);
    let answer = site.anonymous().get("/asyncapi.json").await;
    assert_eq!(names(&checked(&answer)["channels"]), ["socket", "stream", "webhook"]);
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    site.anonymous().get("/asyncapi.json?pretty=1").await.problem(400);
}
