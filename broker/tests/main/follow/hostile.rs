//! Frames that are wrong: told what is wrong with them, and closed only where the protocol itself is broken.

use std::time::Duration;

use broker::Settings;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::lab::{Lab, id};

#[tokio::test]
async fn a_malformed_frame_is_answered_and_the_connection_goes_on() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut ws = broker.ws(&alice).await;
    for (frame, code) in [
        ("", "invalid"),
        ("{", "invalid"),
        ("[1]", "invalid"),
        (r#"{"id":1}"#, "invalid"),
        (r#"{"id":[],"sub":{}}"#, "invalid"),
        (r#"{"id":1,"fly":{}}"#, "invalid"),
        (r#"{"id":1,"sub":{"name":"","filter":"DB/*"}}"#, "invalid"),
        (r#"{"id":1,"sub":{"name":"s","filter":"nonsense"}}"#, "invalid"),
        (r#"{"id":1,"sub":{"name":"s","filter":"DB/*","cursor":"nonsense"}}"#, "invalid"),
        (r#"{"id":1,"sub":{"name":"s","filter":"DB/*","credit":100000}}"#, "invalid"),
        (r#"{"id":1,"join":{"room":"chat/lobby"}}"#, "forbidden"),
        (r#"{"id":1,"join":{"room":"lobby"}}"#, "invalid"),
        (r#"{"id":1,"leave":{"room":"chat/lobby"}}"#, "not-found"),
        (r#"{"id":1,"members":{"room":"chat/lobby"}}"#, "forbidden"),
        (r#"{"id":1,"presence":{"users":["alice"]}}"#, "forbidden"),
        (r#"{"id":1,"presence":{}}"#, "invalid"),
        (r#"{"id":1,"unsub":{"sub":"s"}}"#, "not-found"),
        (r#"{"id":1,"ack":{"sub":"s","cursor":"x"}}"#, "not-found"),
        (r#"{"id":1,"pub":{"queue":"DB","event":"create"}}"#, "invalid"),
        (r#"{"id":1,"pub":{"queue":"SYS","event":"CREATE"}}"#, "forbidden"),
    ] {
        ws.say(frame).await;
        let answer = ws.next().await;
        assert_eq!(answer["error"]["code"], code, "{frame}: {answer}");
        assert!(!answer["error"]["detail"].as_str().unwrap().is_empty());
        assert_eq!(answer["id"].is_null(), !frame.starts_with(r#"{"id":1"#), "{frame}: {answer}");
    }
    ws.subscribe("s", "DB/*", "latest", 256).await;
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(id(&ws.event().await), "0");
}

#[tokio::test]
async fn who_breaks_the_protocol_is_closed_for_good() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut ws = broker.ws_silent(&alice).await;
    ws.say(r#"{"id":1,"sub":{"name":"s","filter":"DB/*"}}"#).await;
    assert_eq!(ws.closed().await.0, 4500);
    let mut ws = broker.ws(&alice).await;
    ws.raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(ws.closed().await.0, 4500);
    let mut ws = broker.ws(&alice).await;
    ws.say(r#"{"hello":{"v":1}}"#).await;
    assert_eq!(ws.closed().await.0, 4500);
    let mut ws = broker.ws_silent(&alice).await;
    ws.say(r#"{"hello":{"v":2}}"#).await;
    assert_eq!(ws.closed().await.0, 4503);
    let mut ws = broker.ws_silent(&alice).await;
    ws.say(r#"{"hello":{"v":1,"token":"nonsense"}}"#).await;
    assert_eq!(ws.closed().await.0, 4501);
    let mut ws = broker.ws(&alice).await;
    ws.say(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1_100_000))).await;
    assert_eq!(ws.closed().await.0, 4502);
}

#[tokio::test]
async fn what_is_no_socket_of_this_protocol_is_refused() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let upgrade = [
        ("turnpike-principal", alice.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for headers in [&upgrade[..1], &upgrade[..]] {
        let refused = broker.get("/ws", headers).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["content-type"]),
            (400, &"application/problem+json".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn who_says_nothing_is_closed_and_may_come_again() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { hello: Duration::from_millis(100), ..Settings::default() }).await;
    assert_eq!(broker.ws_silent(&lab.alice()).await.closed().await.0, 4001);
}

#[tokio::test]
async fn a_frame_may_bring_another_principal() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut ws = broker.ws_silent(&lab.token("nobody", &[])).await;
    ws.send(json!({ "hello": { "v": 1, "token": lab.alice() } })).await;
    assert!(ws.next().await["welcome"].is_object());
    ws.subscribe("s", "DB/*", "latest", 1).await;
    let listed = lab.bus.roster().here();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].subject.as_deref(), Some("alice"), "who is connected is who reads");
    assert_eq!(listed[0].subscriptions.len(), 1);
}
