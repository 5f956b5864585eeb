//! Slow clients: bounded by their credit, and nobody waits for them.

use std::time::Duration;

use broker::Settings;
use serde_json::json;

use super::lab::{Lab, event, id};

#[tokio::test]
async fn credit_stops_who_does_not_acknowledge() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", "latest", 2).await;
    assert!(ws.next().await["caught_up"].is_object());
    lab.publish("DB/CREATE", 0..5).await;
    let (first, second) = (ws.event().await, ws.event().await);
    assert_eq!((id(&first), id(&second)), ("0", "1"));
    // Other answers still come, and no third event before them.
    ws.send(json!({ "id": 7, "unsub": { "sub": "nobody" } })).await;
    assert_eq!(ws.next().await["id"], 7);
    ws.ack("s", &first["cursor"]).await;
    assert_eq!(id(&ws.event().await), "2");
    ws.send(json!({ "id": 8, "ack": { "sub": "s", "cursor": second["cursor"] } })).await;
    let mut after = [ws.next().await, ws.next().await];
    after.sort_by_key(|frame| frame["ok"].is_null());
    assert_eq!((&after[0]["id"], id(&after[1]["ev"])), (&json!(8), "3"));
}

#[tokio::test]
async fn a_socket_that_is_not_read_stops_nobody_and_loses_nothing() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { send_queue: 64 * 1024, ..Settings::default() }).await;
    let alice = lab.alice();
    let (mut slow, mut quick) = (broker.ws(&alice).await, broker.ws(&alice).await);
    slow.subscribe("s", "DB/*", "latest", 4096).await;
    quick.subscribe("s", "DB/*", "latest", 4096).await;
    // More than a ring, and sockets, hold.
    let padding = "x".repeat(4_000);
    let count = 6_000_u32;
    let publish = async {
        for batch in (0..count).collect::<Vec<_>>().chunks(100) {
            let events = batch.iter().map(|n| event("DB/CREATE", &n.to_string()).data(json!(padding))).collect();
            lab.bus.publish(events).await.unwrap();
        }
    };
    let read = async {
        for n in 0..count {
            let event = quick.event().await;
            assert_eq!(id(&event), n.to_string());
            if n % 64 == 0 {
                quick.ack("s", &event["cursor"]).await;
            }
        }
    };
    tokio::join!(publish, read);
    for n in 0..count {
        let event = slow.event().await;
        assert_eq!(id(&event), n.to_string(), "late, and all of it");
        if n % 64 == 0 {
            slow.ack("s", &event["cursor"]).await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_never_read_holds_no_place_for_ever() {
    let lab = Lab::open().await;
    let settings =
        Settings { stall: Duration::from_millis(500), heartbeat: Duration::from_millis(100), ..Settings::default() };
    let broker = lab.broker_with(settings).await;
    let alice = lab.alice();
    let asks = [("turnpike-principal", alice.as_str()), ("accept", "text/event-stream")];
    // Held, and not read: what sockets and the client hold is soon full.
    let _unread = broker.get("/events?filter=DB/*", &asks).await;
    let mut read = broker.sse(&alice, "filter=DB/*", None).await;
    let padding = "x".repeat(200_000);
    let publish = async {
        for n in 0..100 {
            lab.bus.publish(vec![event("DB/CREATE", &n.to_string()).data(json!(padding))]).await.unwrap();
        }
    };
    let (told, ()) = tokio::join!(read.take(100), publish);
    assert_eq!(id(&told[99].data), "99");
    testkit::eventually("its connection is cut", crate::site::SOON, || async {
        (lab.bus.roster().here().len() == 1).then_some(())
    })
    .await;
    // Who is only idle is not.
    lab.publish("DB/CREATE", 100..101).await;
    assert_eq!(id(&read.event().await.data), "100");
}
