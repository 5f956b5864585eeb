//! The same events whatever the transport, and on from where one was.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::lab::{Lab, event, id};

fn by_queue<'a>(events: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, Vec<String>> {
    let mut queues = BTreeMap::<String, Vec<String>>::new();
    for event in events {
        queues
            .entry(event["queue"].as_str().unwrap().to_owned())
            .or_default()
            .push(event["id"].as_str().unwrap().to_owned());
    }
    queues
}

#[tokio::test]
async fn every_transport_tells_the_same_from_the_same_cursor() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..20).await;
    let from = broker.poll(&alice, "filter=DB/*,ORDERS/PLACED&from=earliest&limit=10").await;
    assert_eq!(from.ids(), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    lab.publish("ORDERS/PLACED", 100..400).await;
    lab.publish("ORDERS/PAID", 400..420).await;
    lab.publish("DB/UPDATE", 500..510).await;

    let filter = "DB/*,ORDERS/PLACED";
    let mut ws = broker.ws(&alice).await;
    let ok = ws.subscribe("s", filter, &from.cursor, 16).await;
    assert_eq!((&ok["cursor"], &ok["replaying"]), (&Value::from(from.cursor.as_str()), &Value::from(340)));
    let told = ws.take("s", 320).await;
    let mut prev = from.cursor.clone();
    for event in &told {
        assert_eq!((event["prev"].as_str().unwrap(), &event["replay"]), (prev.as_str(), &Value::Bool(true)));
        prev = event["cursor"].as_str().unwrap().to_owned();
    }
    let websocket = by_queue(told.iter().map(|told| &told["event"]));

    let query = format!("filter={filter}&last_event_id={}", from.cursor);
    let streamed = broker.sse(&alice, &query, None).await.take(320).await;
    assert!(streamed.iter().all(|told| told.data["cursor"] == told.id.as_str()));
    let sse = by_queue(streamed.iter().map(|told| &told.data["event"]));

    let (mut cursor, mut polled) = (from.cursor, Vec::new());
    while polled.len() < 320 {
        let answer = broker.poll(&alice, &format!("filter={filter}&cursor={cursor}&limit=50&wait=5s")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        polled.extend(answer.body["events"].as_array().unwrap().iter().map(|item| item["event"].clone()));
        cursor = answer.cursor;
    }
    let long_poll = by_queue(&polled);

    let mut expected = BTreeMap::from([("ORDERS".to_owned(), (100..400).map(|n| n.to_string()).collect::<Vec<_>>())]);
    expected.insert("DB".to_owned(), (10..20).chain(500..510).map(|n| n.to_string()).collect());
    assert_eq!(websocket, expected);
    assert_eq!(sse, expected);
    assert_eq!(long_poll, expected);
}

#[tokio::test]
async fn last_event_id_goes_on_across_restarts_of_broker_and_bus() {
    let lab = Lab::open().await;
    let alice = lab.alice();
    let broker = lab.broker().await;
    let mut stream = broker.sse(&alice, "filter=DB/*", None).await;
    lab.publish("DB/CREATE", 0..10).await;
    let seen = stream.take(7).await;
    assert!(seen.iter().map(|told| id(&told.data)).eq(["0", "1", "2", "3", "4", "5", "6"]));
    drop(stream);
    broker.stop(Duration::from_secs(5)).await;

    let lab = lab.reopen().await;
    lab.publish("DB/CREATE", 10..15).await;
    let broker = lab.broker().await;
    // The URL is what it was; the header is what the browser adds.
    let mut stream = broker.sse(&alice, "filter=DB/*&from=latest", Some(&seen[6].id)).await;
    let rest = stream.take(8).await;
    assert!(rest.iter().map(|told| id(&told.data)).eq(["7", "8", "9", "10", "11", "12", "13", "14"]));
    assert!(stream.next().await.is_some_and(|told| told.event == "caught_up"));
    lab.publish("DB/CREATE", 15..16).await;
    let next = stream.event().await;
    assert_eq!((id(&next.data), &next.data["replay"]), ("15", &Value::Bool(false)));
}

#[tokio::test]
async fn another_broker_goes_on() {
    let lab = Lab::open().await;
    let (one, other, alice) = (lab.broker().await, lab.broker().await, lab.alice());
    let mut ws = one.ws(&alice).await;
    ws.subscribe("s", "DB/*", "latest", 256).await;
    lab.publish("DB/CREATE", 0..5).await;
    let cursor = ws.take("s", 3).await.pop().unwrap()["cursor"].as_str().unwrap().to_owned();
    let mut ws = other.ws(&alice).await;
    ws.subscribe("s", "DB/*", &cursor, 256).await;
    assert!(ws.take("s", 2).await.iter().map(id).eq(["3", "4"]));
    let answer = other.poll(&alice, &format!("filter=DB/*&cursor={cursor}")).await;
    assert_eq!(answer.ids(), ["3", "4"]);
}

#[tokio::test]
async fn latest_begins_now_and_a_time_begins_there() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..3).await;
    let mut ws = broker.ws(&alice).await;
    assert_eq!(ws.subscribe("now", "DB/*", "latest", 256).await["replaying"], 0);
    lab.publish("DB/CREATE", 3..4).await;
    let first = ws.event().await;
    assert_eq!((id(&first), &first["replay"]), ("3", &Value::Bool(false)));
    lab.advance(Duration::from_secs(3_600)).await;
    lab.publish("DB/CREATE", 4..5).await;
    // The bus's clock is an hour ahead of the broker's.
    let answer = broker.poll(&alice, "filter=DB/*&from=-PT5M").await;
    assert_eq!(answer.ids(), ["0", "1", "2", "3", "4"]);
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(1_800);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(broker.poll(&alice, &format!("filter=DB/*&from={soon}")).await.ids(), ["4"]);
}

#[tokio::test]
async fn a_poll_without_anything_moves_on_through_the_filter() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..50).await;
    let nothing = broker.poll(&alice, "filter=DB/DELETE&from=earliest&wait=200ms").await;
    assert_eq!((nothing.status, &nothing.body), (204, &Value::Null));
    let end = broker.poll(&alice, "filter=DB/*&from=earliest").await;
    assert_eq!(nothing.cursor, end.cursor, "past what was refused");
    // Who waits is answered when something comes.
    let waits = format!("filter=DB/*&cursor={}&wait=60s", end.cursor);
    let (answer, ()) = tokio::join!(broker.poll(&alice, &waits), lab.publish("DB/CREATE", 50..51));
    assert_eq!(answer.ids(), ["50"]);
}

#[tokio::test]
async fn all_queues_are_followed_also_new_ones() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..1).await;
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("all", "*/*", "latest", 256).await;
    let mut stream = broker.sse(&alice, "filter=*/CREATE", None).await;
    lab.publish("DB/CREATE", 1..2).await;
    lab.publish("ORDERS/PLACED", 2..3).await;
    lab.publish("CARTS/CREATE", 3..4).await;
    let told = ws.take("all", 3).await;
    let mut ids: Vec<&str> = told.iter().map(id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3"], "of new queues from their beginning");
    assert!(stream.take(2).await.iter().map(|told| id(&told.data).to_owned()).eq(["1", "3"]));
    // Where that ended, all of them go on.
    lab.publish("ORDERS/PLACED", 4..5).await;
    lab.publish("NEW/CREATE", 5..6).await;
    let cursor = told[2]["cursor"].as_str().unwrap();
    let mut ids = broker.poll(&alice, &format!("filter=*/*&cursor={cursor}")).await.ids();
    ids.sort_unstable();
    assert_eq!(ids, ["4", "5"]);
}

#[tokio::test]
async fn several_partitions_are_one_stream() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let queue = bus::Queue { partitions: 4, ..bus::Queue::new(events::Name::new("DB").unwrap()) };
    lab.bus.declare_queue(queue).await.unwrap();
    let publish = async |ids: std::ops::Range<u32>| {
        for n in ids {
            let event = event("DB/CREATE", &n.to_string()).partitionkey(format!("k{}", n % 16));
            lab.bus.publish(vec![event]).await.unwrap();
        }
    };
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", "earliest", 256).await;
    publish(0..40).await;
    let told = ws.take("s", 40).await;
    let cursor = told[20]["cursor"].as_str().unwrap().to_owned();
    publish(40..60).await;
    let seen: Vec<String> = told[..=20].iter().map(|told| id(told).to_owned()).collect();
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", &cursor, 256).await;
    let rest = ws.take("s", 39).await;
    let mut all: Vec<u32> =
        seen.iter().map(String::as_str).chain(rest.iter().map(id)).map(|id| id.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
}
