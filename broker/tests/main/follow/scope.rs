//! Scopes decide what is seen.

use broker::Settings;
use principal::METADATA;
use proto::turnpike::bus::v1::{self as wire, subscribe_response::Message};
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::lab::{Lab, event, id};
use crate::{grpc::fleet::reason, site::SOON};

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
    // Pages aren't told the status of a WebSocket that is refused: they ask without one.
    let refused = broker.get("/ws", &[("turnpike-principal", alice.as_str())]).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
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

#[tokio::test]
async fn rooms_and_presence_are_read_by_scopes_of_their_own_on_every_transport() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let said = |id: &str, room: &str| event("ROOMS/MESSAGE", id).subject(room).partitionkey(room);
    let online = event("PRESENCE/ONLINE", "online").subject("carol").owner("carol");
    let events = [event("DB/CREATE", "d1"), said("lobby", "chat/lobby"), said("team", "game/team"), online];
    for event in events {
        lab.bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
    }
    let reader = lab.token("reader", &["events:read:*/*", "events:read:ROOMS/*", "events:read:PRESENCE/*"]);
    let member = lab.token("member", &["events:read:*/*", "rooms:join:chat/*"]);
    let everything = lab.token("everything", &["events:read:*/*", "rooms:join:*/*", "presence:read"]);

    for filter in ["ROOMS/*", "ROOMS/*[subject=chat/lobby]", "PRESENCE/*", "*/*,PRESENCE/ONLINE"] {
        let path = format!("/events?filter={}", filter.replace('[', "%5B").replace(']', "%5D"));
        let asks = [(METADATA, reader.as_str()), ("accept", "text/event-stream")];
        for headers in [&asks[..1], &asks] {
            assert_eq!(broker.get(&path, headers).await.status(), 403, "{filter}");
        }
        let mut ws = broker.ws(&reader).await;
        ws.send(json!({ "id": 1, "sub": { "name": "s", "filter": filter } })).await;
        assert_eq!(ws.next().await["error"]["code"], "forbidden", "{filter}");
        let request = wire::SubscribeRequest { filter: filter.to_owned(), ..wire::SubscribeRequest::default() };
        let refused = broker.grpc(&reader).await.subscribe(request).await.map(drop);
        assert_eq!(reason(refused, Code::PermissionDenied), "FORBIDDEN");
    }

    // A place in these queues shows nothing more of them.
    let mut ws = broker.ws(&everything).await;
    let cursor = ws.subscribe("s", "DB/*,ROOMS/*,PRESENCE/*", "earliest", 16).await["cursor"].take();
    let cursor = cursor.as_str().unwrap();
    for (token, seen) in [(&reader, &["d1"][..]), (&member, &["d1", "lobby"]), (&everything, &["d1", "lobby", "team"])]
    {
        for from in ["from=earliest".to_owned(), format!("cursor={cursor}")] {
            let polled = broker.poll(token, &format!("filter=*/*&{from}")).await;
            assert_eq!(sorted(polled.ids()), seen, "{from}");
        }
        let mut stream = broker.sse(token, "filter=*/*", Some(cursor)).await;
        let mut ids = Vec::new();
        loop {
            let told = stream.next().await.unwrap();
            match told.event.as_str() {
                "event" => ids.push(id(&told.data).to_owned()),
                "caught_up" => break,
                _ => {}
            }
        }
        assert_eq!(sorted(ids), seen, "of a stream");
        let mut ws = broker.ws(token).await;
        ws.subscribe("s", "*/*", cursor, 16).await;
        let told = ws.take("s", seen.len()).await;
        assert_eq!(sorted(told.iter().map(|told| id(told).to_owned()).collect()), seen, "of a socket");
        assert!(ws.next().await["caught_up"].is_object());
        let begin = Some(wire::Begin { at: Some(wire::begin::At::Cursor(cursor.to_owned())) });
        let request = wire::SubscribeRequest { filter: "*/*".to_owned(), begin, ..wire::SubscribeRequest::default() };
        let mut stream = broker.grpc(token).await.subscribe(request).await.unwrap().into_inner();
        let mut ids = Vec::new();
        loop {
            match timeout(SOON, stream.message()).await.expect("something").unwrap().unwrap().message.unwrap() {
                Message::Event(told) => ids.push(told.event.unwrap().id),
                Message::CaughtUp(_) => break,
                _ => {}
            }
        }
        assert_eq!(sorted(ids), seen, "over gRPC");
    }

    for (id, queue, statuses) in
        [("d1", "DB", [200; 3]), ("lobby", "ROOMS", [403, 200, 200]), ("team", "ROOMS", [403, 403, 200])]
    {
        for (token, expected) in [&reader, &member, &everything].into_iter().zip(statuses) {
            for path in [format!("/events/{id}"), format!("/events/{id}/status")] {
                let path = format!("{path}?queue={queue}&source=/services/test");
                let status = broker.get(&path, &[(METADATA, token)]).await.status().as_u16();
                assert_eq!(status, expected, "{path}");
            }
        }
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
