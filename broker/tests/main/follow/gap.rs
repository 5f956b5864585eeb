//! What can't be read any more is told, not passed over.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, id};

const WEEK: Duration = Duration::from_secs(8 * 86_400);

#[tokio::test]
async fn what_was_trimmed_is_a_gap_on_every_transport() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..5).await;
    let cursor = broker.poll(&alice, "filter=DB/*&from=earliest&limit=1").await.cursor;
    lab.advance(WEEK).await;
    lab.publish("DB/CREATE", 5..6).await;

    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", &cursor, 256).await;
    let gap = ws.next().await["gap"].take();
    let told = json!([gap["sub"], gap["from"], gap["lost"], gap["reason"], gap["queue"]]);
    assert_eq!(told, json!(["s", cursor, 4, "retention", "DB"]), "{gap}");
    let event = ws.event().await;
    assert_eq!((id(&event), &event["prev"]), ("5", &gap["to"]));

    let mut stream = broker.sse(&alice, "filter=DB/*", Some(&cursor)).await;
    let told = stream.next().await.unwrap();
    assert_eq!((told.event.as_str(), &told.data["lost"], &told.data["to"]), ("gap", &json!(4), &json!(told.id)));
    assert_eq!(id(&stream.event().await.data), "5");

    let answer = broker.poll(&alice, &format!("filter=DB/*&cursor={cursor}")).await;
    assert_eq!((&answer.body["gap"]["lost"], answer.ids()), (&json!(4), vec!["5".to_owned()]));
    // Whoever goes on from after the gap isn't told again.
    let to = gap["to"].as_str().unwrap();
    let again = broker.poll(&alice, &format!("filter=DB/*&cursor={to}")).await;
    assert_eq!((&again.body["gap"], again.ids()), (&Value::Null, vec!["5".to_owned()]));
}

#[tokio::test]
async fn a_cursor_of_another_log_is_a_reset() {
    let lab = Lab::open().await;
    let other = lab.sibling().await;
    other.publish("DB/CREATE", 0..9).await;
    let cursor = other.broker().await.poll(&other.alice(), "filter=DB/*&from=earliest").await.cursor;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 100..103).await;
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", &cursor, 256).await;
    let gap = ws.next().await["gap"].take();
    assert_eq!((&gap["reason"], &gap["lost"]), (&json!("reset"), &Value::Null), "{gap}");
    assert!(ws.take("s", 3).await.iter().map(id).eq(["100", "101", "102"]));
    let caught_up = ws.next().await;
    assert!(caught_up["caught_up"].is_object(), "{caught_up}");
    lab.publish("DB/CREATE", 103..104).await;
    assert_eq!(id(&ws.event().await), "103");
}

#[tokio::test]
async fn who_follows_every_queue_is_told_of_one_that_was_gone_and_began_anew() {
    let lab = Lab::open().await;
    let other = lab.sibling().await;
    other.publish("DB/CREATE", 0..9).await;
    let cursor = other.broker().await.poll(&other.alice(), "filter=*/*&from=earliest").await.cursor;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut stream = broker.sse(&alice, "filter=*/*", Some(&cursor)).await;
    lab.publish("DB/CREATE", 100..102).await;
    let mut told = stream.next().await.unwrap();
    while matches!(told.event.as_str(), "caught_up" | "cursor") {
        told = stream.next().await.unwrap();
    }
    assert_eq!(
        (told.event.as_str(), &told.data["reason"], &told.data["queue"]),
        ("gap", &json!("reset"), &json!("DB"))
    );
    assert!(stream.take(2).await.iter().map(|told| id(&told.data)).eq(["100", "101"]));
}
