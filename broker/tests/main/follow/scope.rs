//! Scopes decide what is seen.

use broker::Settings;
use serde_json::json;

use super::lab::{Lab, event, id};

#[tokio::test]
async fn a_filter_is_refused_that_no_scope_covers() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let reader = lab.token("reader", &["events:read:DB/*"]);
    for filter in ["*/*", "ORDERS/*", "DB/*,ORDERS/PLACED", "*/CREATE"] {
        assert_eq!(broker.poll(&reader, &format!("filter={filter}")).await.status, 403, "{filter}");
        let mut ws = broker.ws(&reader).await;
        ws.send(json!({ "id": "a", "sub": { "name": "s", "filter": filter } })).await;
        let refused = ws.next().await;
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("a"), &json!("forbidden")), "{refused}");
    }
    assert_eq!(broker.poll(&reader, "filter=DB/*&wait=1ms").await.status, 204);
    assert_eq!(broker.poll("not a token", "filter=DB/*").await.status, 401);
    assert_eq!(broker.get("/events?filter=DB/*", &[]).await.status(), 401);
    for wrong in [
        "filter=db/*",
        "",
        "filter=DB/*&cursor=x",
        "filter=DB/*&from=x",
        "filter=DB/*&wait=61s",
        "filter=DB/*&colour=red",
    ] {
        assert_eq!(broker.poll(&reader, wrong).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn own_events_are_all_that_their_owner_sees() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let owned = |id: &str, owner: &str| event("ORDERS/PLACED", id).owner(owner);
    let events = vec![
        owned("1", "customers/1"),
        owned("2", "customers/2"),
        event("ORDERS/PLACED", "3"),
        owned("4", "customers/1"),
    ];
    lab.bus.publish(events).await.unwrap();
    let token = lab.token("customers/1", &["events:read:own:ORDERS/*"]);
    assert_eq!(broker.poll(&token, "filter=ORDERS/*&from=earliest").await.ids(), ["1", "4"]);
    let mut ws = broker.ws(&token).await;
    ws.subscribe("s", "ORDERS/*", "earliest", 256).await;
    assert!(ws.take("s", 2).await.iter().map(id).eq(["1", "4"]));
    assert!(ws.next().await["caught_up"].is_object());
    lab.bus.publish(vec![owned("5", "customers/2"), owned("6", "customers/1")]).await.unwrap();
    assert_eq!(id(&ws.event().await), "6");
}

#[tokio::test]
async fn a_condition_narrows_what_is_followed_on_every_transport() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let placed = |id: &str, status: &str| event("ORDERS/PLACED", id).data(json!({ "status": status }));
    lab.bus.publish(vec![placed("1", "NEW"), placed("2", "OLD"), placed("3", "NEW")]).await.unwrap();
    let token = lab.token("reader", &["events:read:ORDERS/*"]);
    assert_eq!(broker.poll(&token, "filter=*/*[data.status=NEW]&from=earliest").await.status, 403);
    let query = "filter=ORDERS/*%5Bdata.status=NEW%5D&from=earliest";
    assert_eq!(broker.poll(&token, query).await.ids(), ["1", "3"]);
    let mut ws = broker.ws(&token).await;
    ws.subscribe("s", "ORDERS/*[data.status=NEW]", "earliest", 256).await;
    assert!(ws.take("s", 2).await.iter().map(id).eq(["1", "3"]));
    assert!(ws.next().await["caught_up"].is_object());
    // A scope with a condition covers the filters that have it as well.
    let narrow = lab.token("reader", &["events:read:ORDERS/*[data.status=NEW]"]);
    assert_eq!(broker.poll(&narrow, query).await.ids(), ["1", "3"]);
    assert_eq!(broker.poll(&narrow, "filter=ORDERS/*").await.status, 403);
}

#[tokio::test]
async fn a_full_node_says_when_to_come_again() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { connections: 1, ..Settings::default() }).await;
    let alice = lab.alice();
    let stream = broker.sse(&alice, "filter=DB/*", None).await;
    let refused = broker.poll(&alice, "filter=DB/*&wait=1ms").await;
    assert_eq!(refused.status, 503);
    assert!((1..=8).contains(&refused.retry_after.unwrap().parse::<u32>().unwrap()));
    drop(stream);
    testkit::eventually("the place is free again", crate::site::SOON, || async {
        (broker.poll(&alice, "filter=DB/*&wait=1ms").await.status == 204).then_some(())
    })
    .await;
}

#[tokio::test]
async fn queues_that_are_not_there_are_not_followed_without_end() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { queues: 2, ..Settings::default() }).await;
    let alice = lab.alice();
    let _stream = broker.sse(&alice, "filter=A/*,B/*", None).await;
    let refused = broker.poll(&alice, "filter=C/*&wait=1ms").await;
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some());
    assert_eq!(broker.poll(&alice, "filter=A/*&wait=1ms").await.status, 204, "one that is followed may be");
}
