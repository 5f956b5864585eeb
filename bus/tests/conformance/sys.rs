//! What the bus tells of itself in the queue SYS: once, and not too often.

use bus::{Mode, Overflow, Queue, Subscription, TailFrom, Tailed, Transport};
use tokio_util::sync::CancellationToken;

use super::{
    Lab, abandoned::told, claim, declare, event, eventually, publish_many, queue, refuse, seconds, settle, status,
};

pub(crate) async fn dead_letters_are_told_every_ten_minutes(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    declare(&bus, "h", Mode::Parallel).await;
    publish_many(&bus, 0..4).await;
    let leased = claim(&bus, "g", 4).await;
    settle(&bus, "g", leased[0].token, refuse()).await.unwrap();
    lab.advance(seconds(1)).await;
    for leased in &leased[1..] {
        settle(&bus, "g", leased.token, refuse()).await.unwrap();
    }
    settle(&bus, "h", claim(&bus, "h", 1).await[0].token, refuse()).await.unwrap();
    lab.advance(seconds(300)).await;
    let count = |told: &[(String, serde_json::Value)]| -> Vec<(String, u64, u64)> {
        let number = |data: &serde_json::Value, field: &str| data[field].as_u64().unwrap();
        told.iter().map(|(subject, data)| (subject.clone(), number(data, "count"), number(data, "dead"))).collect()
    };
    let told_first = count(&told(&bus, "DEAD_LETTER").await);
    assert_eq!(told_first, [("groups/g".to_owned(), 1, 1), ("groups/h".to_owned(), 1, 1)]);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    lab.advance(seconds(400)).await;
    // Who carries them over may have died.
    eventually("they are told", async || told(&bus, "DEAD_LETTER").await.len() == 3).await;
    assert_eq!(count(&told(&bus, "DEAD_LETTER").await)[2..], [("groups/g".to_owned(), 3, 4)], "what came since");
    lab.advance(seconds(700)).await;
    assert_eq!(told(&bus, "DEAD_LETTER").await.len(), 3, "nothing new, nothing told");
}

pub(crate) async fn a_full_queue_is_told(lab: impl Lab) {
    let bus = lab.bus();
    let limited = Queue { max_len: Some(1), overflow: Overflow::Reject, ..Queue::new(queue()) };
    bus.declare_queue(limited).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..1).await;
    for id in ["a", "b", "c"] {
        assert!(bus.publish(vec![event(id, "k")]).await.unwrap()[0].is_err());
    }
    lab.advance(seconds(1)).await;
    let told = told(&bus, "QUEUE_FULL").await;
    let [(subject, data)] = told.as_slice() else { panic!("told once: {told:?}") };
    assert_eq!((subject.as_str(), &data["partition"]), ("queues/DB", &0.into()));
    let mut tail = bus.tail("SYS/QUEUE_FULL".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), Tailed::Event { position: 1, .. }), "a queue like any other");
}

pub(crate) async fn a_group_is_told_of_once_whatever_its_partitions(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..20).await;
    for leased in claim(&bus, "g", 20).await {
        settle(&bus, "g", leased.token, refuse()).await.unwrap();
    }
    const STEPS: u64 = 7;
    for _ in 0..STEPS {
        lab.advance(seconds(300)).await;
    }
    eventually("all are told of", async || {
        let told = told(&bus, "DEAD_LETTER").await;
        told.iter().map(|(_, data)| data["count"].as_u64().unwrap()).sum::<u64>() == 20
    })
    .await;
    let times = told(&bus, "DEAD_LETTER").await.len() as u64;
    assert!(times <= 1 + STEPS * 300 / 600, "{times} times");
    assert_eq!(status(&bus, "g").await.dead, 20);
}

pub(crate) async fn who_subscribes_and_who_stops_is_told_where_it_is_asked_for(lab: impl Lab) {
    let bus = lab.bus();
    let follows = |filter: &str, group: Option<&str>| Subscription {
        name: filter.to_lowercase(),
        filter: filter.to_owned(),
        group: group.map(str::to_owned),
    };
    let join = |transport, follows| bus.roster().join(transport, Some("customers/1".into()), None, follows);
    drop(join(Transport::Sse, vec![follows("BEFORE/*", None)]));
    let over = CancellationToken::new();
    let (told_by, until) = (bus.clone(), over.clone());
    let telling = tokio::spawn(async move { told_by.tell_subscriptions(until).await });
    let filters = async |event: &str| {
        let told = told(&bus, event).await;
        told.iter().map(|(_, data)| data["filter"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // On this one thread: it has begun to listen.
    tokio::task::yield_now().await;
    let socket = join(Transport::WebSocket, vec![follows("DB/*", None), follows("ORDERS/*", None)]);
    socket.follow(vec![follows("ORDERS/*", None), follows("DB/CREATE", None)]);
    let member = bus.roster().join(Transport::Member, None, None, vec![follows("DB/*", Some("g"))]);
    eventually("they are told", async || filters("SUBSCRIBED").await.len() == 4).await;
    assert_eq!(filters("SUBSCRIBED").await, ["DB/*", "ORDERS/*", "DB/CREATE", "DB/*"]);
    assert_eq!(filters("UNSUBSCRIBED").await, ["DB/*"]);
    let (subject, data) = told(&bus, "SUBSCRIBED").await.remove(0);
    assert_eq!(subject, format!("connections/{}", socket.id()));
    assert_eq!((&data["user"], &data["transport"]), (&"customers/1".into(), &"web_socket".into()));
    assert_eq!((&data["node"], data.get("address")), (&bus.roster().node().into(), None));
    let (subject, data) = told(&bus, "SUBSCRIBED").await.remove(3);
    assert_eq!((subject.as_str(), &data["group"]), ("groups/g", &"g".into()));
    // Who leaves at the very end is told of as well.
    drop((socket, member));
    over.cancel();
    telling.await.unwrap();
    assert_eq!(filters("UNSUBSCRIBED").await[1..], ["ORDERS/*", "DB/CREATE", "DB/*"]);
}
