//! What comes before the stream: each key's last event; and what a replay passes over.

use bus::Queue;
use events::Name;
use serde_json::json;

use super::lab::{Lab, event, id};

async fn keep_latest(lab: &Lab, partitions: u32) {
    let name = Name::new("DB").unwrap();
    lab.bus.declare_queue(Queue { partitions, latest: true, ..Queue::new(name) }).await.unwrap();
}

async fn publish(lab: &Lab, events: &[(&str, &str)]) {
    for (id, key) in events {
        lab.bus.publish(vec![event("DB/CREATE", id).partitionkey(*key)]).await.unwrap()[0].as_ref().unwrap();
    }
}

#[tokio::test]
async fn the_last_event_of_each_key_comes_first_then_the_stream() {
    let lab = Lab::open().await;
    keep_latest(&lab, 1).await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    publish(&lab, &[("1", "a"), ("2", "b"), ("3", "a"), ("4", "c"), ("5", "b")]).await;
    let mut ws = broker.ws(&alice).await;
    ws.send(json!({ "id": 1, "sub": { "name": "s", "filter": "DB/*", "view": "latest" } })).await;
    let ok = ws.next().await;
    assert!(ok["ok"]["cursor"].is_string() && ok["ok"]["replaying"].is_null(), "{ok}");
    let told = ws.take("s", 3).await;
    assert!(told.iter().map(id).eq(["3", "4", "5"]));
    assert!(told.iter().all(|told| told["replay"] == true));
    assert!(ws.next().await["caught_up"].is_object());
    publish(&lab, &[("6", "a"), ("7", "a")]).await;
    let stream = ws.take("s", 2).await;
    assert!(stream.iter().map(id).eq(["6", "7"]), "the stream leaves nothing out");

    // From a cursor: the keys that changed after it, from the middle of a view too.
    let cursor = told[0]["cursor"].as_str().unwrap();
    let polled = broker.poll(&alice, &format!("filter=DB/*&view=latest&cursor={cursor}")).await;
    assert_eq!(polled.ids(), ["4", "5", "7"]);
    let mut stream = broker.sse(&alice, "filter=DB/*&view=latest", Some(cursor)).await;
    assert!(stream.take(3).await.iter().map(|told| id(&told.data)).eq(["4", "5", "7"]));
}

#[tokio::test]
async fn every_partition_has_its_view_and_conditions_narrow_it() {
    let lab = Lab::open().await;
    keep_latest(&lab, 4).await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let keys: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    for round in 0..3 {
        for key in &keys {
            publish(&lab, &[(&format!("{key}-{round}"), key)]).await;
        }
    }
    let mut ids = Vec::new();
    let mut cursor = String::new();
    // A page at a time, from where the one before ended.
    while ids.len() < keys.len() {
        let from = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let polled = broker.poll(&alice, &format!("filter=DB/*&view=latest&limit=7{from}")).await;
        assert_eq!(polled.status, 200);
        ids.extend(polled.ids());
        cursor = polled.cursor;
    }
    ids.sort();
    let mut expected: Vec<String> = keys.iter().map(|key| format!("{key}-2")).collect();
    expected.sort();
    assert_eq!(ids, expected);
    let one = broker.poll(&alice, "filter=DB/*[id=7-2]&view=latest").await;
    assert_eq!(one.ids(), ["7-2"]);
}

#[tokio::test]
async fn a_view_that_can_not_be_is_refused() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..1).await;
    for (query, says) in [
        ("filter=DB/*&view=latest", "latest"),
        ("filter=*/*&view=latest", "queues that the filter names"),
        ("filter=DB/*&view=latest&from=earliest", "cursor"),
        ("filter=DB/*&view=newest", "stream or latest"),
    ] {
        let refused = broker.poll(&alice, query).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.body["detail"].as_str().unwrap().contains(says), "{query}: {}", refused.body);
    }
    let mut ws = broker.ws(&alice).await;
    ws.send(json!({ "id": 1, "sub": { "name": "s", "filter": "DB/*", "view": "latest" } })).await;
    assert_eq!(ws.next().await["error"]["code"], "invalid");
}

#[tokio::test]
async fn a_replay_passes_over_what_matters_only_while_it_is_new() {
    let lab = Lab::open().await;
    let name = Name::new("TYPING").unwrap();
    lab.bus.declare_queue(Queue { realtime: true, ..Queue::new(name) }).await.unwrap();
    let (broker, alice) = (lab.broker().await, lab.alice());
    let before = broker.poll(&alice, "filter=TYPING/*,DB/*&wait=1ms").await.cursor;
    lab.publish("TYPING/BEGAN", 0..3).await;
    lab.publish("DB/CREATE", 10..12).await;
    let mut ws = broker.ws(&alice).await;
    let ok = ws.subscribe("s", "TYPING/*,DB/*", "earliest", 256).await;
    assert_eq!(ok["replaying"], 2, "{ok}");
    assert!(ws.take("s", 2).await.iter().map(id).eq(["10", "11"]));
    assert!(ws.next().await["caught_up"].is_object());
    lab.publish("TYPING/BEGAN", 3..4).await;
    assert_eq!(id(&ws.event().await), "3", "what is new is told");
    let mut stream = broker.sse(&alice, "filter=TYPING/*,DB/*", Some(&before)).await;
    assert!(stream.take(2).await.iter().map(|told| id(&told.data)).eq(["10", "11"]));
    // Who asks again and again was away for a moment only.
    let mut polled = broker.poll(&alice, &format!("filter=TYPING/*&cursor={before}")).await.ids();
    polled.sort();
    assert_eq!(polled, ["0", "1", "2", "3"]);
}
