//! An event's status as a stream.

use std::time::Duration;

use broker::Settings;
use bus::{Claim, Group, Leased, Mode, Settlement, Verb};
use http_body_util::BodyExt as _;
use principal::METADATA;
use serde_json::{Value, json};

use super::lab::{Block, Lab, Running, Sse};
use crate::site::SOON;

const PATH: &str = "/events/0/status?queue=DB&source=/services/test&watch=1";

/// A group, and an event that it takes.
async fn lab() -> Lab {
    let lab = Lab::open().await;
    lab.bus.declare_group(Group::new("billing", "DB/*".parse().unwrap(), Mode::Parallel)).await.unwrap();
    lab.publish("DB/CREATE", 0..1).await;
    lab
}

async fn watch(lab: &Lab, broker: &Running, last: &str) -> hyper::Response<hyper::body::Incoming> {
    let headers = [(METADATA, &*lab.alice()), ("accept", "text/event-stream"), ("last-event-id", last)];
    broker.get(PATH, &headers).await
}

async fn claim(lab: &Lab) -> Leased {
    let claim = Claim { group: "billing".into(), member: "m".into(), max: 1, bytes: 1 << 20 };
    lab.bus.claim(claim).await.unwrap().leased.remove(0)
}

async fn settle(lab: &Lab, leased: &Leased, verb: Verb) {
    let settlement = Settlement { token: leased.token, verb };
    lab.bus.settle("billing", vec![settlement]).await.unwrap()[0].as_ref().unwrap();
}

/// The next status.
async fn told(stream: &mut Sse) -> Value {
    let Block { event, data, .. } = stream.next().await.expect("a status before the end");
    assert_eq!(event, "status");
    data
}

async fn stands(stream: &mut Sse) -> Value {
    told(stream).await["groups"]["billing"].take()
}

#[tokio::test]
async fn each_change_is_told_until_no_group_is_at_it() {
    let lab = lab().await;
    let broker = lab.broker().await;
    let mut stream = Sse::of(watch(&lab, &broker, "").await);
    let first = told(&mut stream).await;
    assert_eq!((&first["delivery"], &first["groups"]), (&json!("pending"), &json!({"billing": "pending"})));
    let leased = claim(&lab).await;
    let status = told(&mut stream).await;
    let details = &status["details"]["billing"];
    assert_eq!((&status["groups"]["billing"], &details["attempt"]), (&json!("leased"), &json!(1)));
    assert!(details["until"].is_string() && details["at"].is_null(), "{status}");
    let delay = Some(Duration::from_secs(60));
    settle(&lab, &leased, Verb::Nack { delay, reason: "later".to_owned(), retryable: true }).await;
    let status = told(&mut stream).await;
    let details = &status["details"]["billing"];
    assert_eq!((&status["groups"]["billing"], &details["attempt"]), (&json!("retrying"), &json!(2)));
    assert!(details["at"].is_string(), "{status}");
    lab.advance(Duration::from_secs(60)).await;
    let leased = claim(&lab).await;
    settle(&lab, &leased, Verb::Ack).await;
    let last = loop {
        let status = told(&mut stream).await;
        if status["delivery"] != "pending" {
            break status;
        }
    };
    assert_eq!((&last["delivery"], &last["groups"]["billing"]), (&json!("delivered"), &json!("acked")));
    assert!(last["details"].is_null(), "there is no more to say: {last}");
    let end = stream.next().await.unwrap();
    assert_eq!((end.event.as_str(), end.id.as_str()), ("settled", "settled"));
    assert!(stream.next().await.is_none());
    assert_eq!(watch(&lab, &broker, "settled").await.status(), 204, "an EventSource need not come back");
    let mut again = Sse::of(watch(&lab, &broker, "").await);
    assert_eq!(stands(&mut again).await, "acked", "long settled: told at once");
    assert_eq!(again.next().await.unwrap().event, "settled");
}

#[tokio::test]
async fn a_silent_watch_lives_and_a_drain_ends_it() {
    let lab = lab().await;
    let settings = Settings { heartbeat: Duration::from_millis(50), drain: Duration::ZERO, ..Settings::default() };
    let broker = lab.broker_with(settings).await;
    let mut body = watch(&lab, &broker, "").await.into_body();
    let mut text = String::new();
    while !text.contains(": alive") {
        let frame = tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert_eq!(text.matches("event: status").count(), 1, "{text}");
    broker.shutdown.begin(Duration::from_secs(20));
    let rest = tokio::time::timeout(SOON, body.collect()).await.unwrap().unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(rest.contains("retry: "), "{rest}");
}

#[tokio::test]
async fn watchers_have_their_bound_and_what_goes_with_a_stream() {
    let lab = lab().await;
    let broker = lab.broker_with(Settings { waiters: 1, ..Settings::default() }).await;
    let mut first = Sse::of(watch(&lab, &broker, "").await);
    assert_eq!(stands(&mut first).await, "pending");
    assert_eq!(watch(&lab, &broker, "").await.status(), 503);
    let token = lab.token("bob", &["events:write:*/*"]);
    let headers = [(METADATA, &*token), ("accept", "text/event-stream")];
    assert_eq!(broker.get(PATH, &headers).await.status(), 403, "the event is somebody else's");
    let headers = [(METADATA, &*lab.alice()), ("accept", "text/event-stream")];
    assert_eq!(broker.get(&format!("{PATH}&timeout=5s"), &headers).await.status(), 400, "a stream has no timeout");
}
