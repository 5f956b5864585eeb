//! Several processes on one server, as several handles.

use tokio_util::sync::CancellationToken;

use bus::{Bus, Queue, Subscription, TailFrom, Tailed, Transport, redis::Options};

use super::{command, eventually};
use crate::conformance::{abandoned::told, event, publish, queue, seconds};

async fn two(server: &testkit::Redis) -> (Bus, Bus) {
    let open = async || bus::redis::open(&server.url()).await.unwrap();
    (open().await, open().await)
}

#[tokio::test]
async fn what_one_node_publishes_another_one_tails() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    let mut tail = other.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    let publishing = tokio::spawn(async move {
        for n in 0..200 {
            publish(&one, &[(&n.to_string(), "k")]).await;
        }
        one
    });
    let mut seen = Vec::new();
    while seen.len() < 200 {
        match tokio::time::timeout(seconds(20), tail.next()).await.expect("in time").unwrap() {
            Tailed::Event { envelope, position, .. } => {
                seen.push(envelope.id.clone());
                assert_eq!(position, seen.len() as u64);
            }
            Tailed::CaughtUp => {}
            Tailed::Gap(gap) => panic!("{gap:?}"),
        }
    }
    assert!(seen.into_iter().eq((0..200).map(|n| n.to_string())));
    publishing.await.unwrap();
}

#[tokio::test]
async fn nodes_that_race_record_an_id_once() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    let racers: Vec<_> = (0..40)
        .map(|n| {
            let bus = if n % 2 == 0 { one.clone() } else { other.clone() };
            tokio::spawn(async move { publish(&bus, &[("one", "k")]).await[0] })
        })
        .collect();
    let mut first = 0;
    for racer in racers {
        let recorded = racer.await.unwrap();
        assert_eq!(recorded.position, Some(1));
        first += usize::from(!recorded.duplicate);
    }
    assert_eq!(first, 1);
}

#[tokio::test]
async fn a_node_learns_how_many_partitions_another_one_declared() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    one.declare_queue(Queue::new(queue())).await.unwrap();
    assert_eq!(other.partition(&queue(), "k").await.unwrap().count, 1);
    one.declare_queue(Queue { partitions: 8, ..Queue::new(queue()) }).await.unwrap();
    // The other one still thinks that there is one; its events must not be split by key.
    let events = (0..40).map(|n| event(&n.to_string(), &format!("k{n}"))).collect();
    for (n, outcome) in other.publish(events).await.unwrap().into_iter().enumerate() {
        let assigned = one.partition(&queue(), &format!("k{n}")).await.unwrap();
        assert_eq!(outcome.unwrap().partition, assigned.index);
    }
}

#[tokio::test]
async fn a_node_that_dies_in_a_declaration_leaves_a_queue_that_takes_events() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    one.declare_queue(Queue { partitions: 2, ..Queue::new(queue()) }).await.unwrap();
    // It had told one of the partitions, and registered nothing.
    command(&server, &["HSET", "tp:{DB:0}:m", "partitions", "8"]).await;
    let events = (0..20).map(|n| event(&n.to_string(), &format!("k{n}"))).collect();
    other.publish(events).await.unwrap().into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    assert_eq!(other.partition(&queue(), "k").await.unwrap().count, 2);
    // Or another one had events by what it told before this one registered something else.
    command(&server, &["HSET", "tp:queues", "DB", r#"{"partitions":1,"max_age_ms":1000000}"#]).await;
    eventually("it is registered as it is", async || {
        one.publish(vec![event("again", "k")]).await.unwrap()[0].as_ref().unwrap();
        one.partition(&queue(), "k").await.unwrap().count == 2
            && command(&server, &["HGET", "tp:queues", "DB"]).await.contains(":2,")
    })
    .await;
}

#[tokio::test]
async fn a_lost_hint_is_made_up_for() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    publish(&one, &[("a", "k")]).await;
    let mut tail = other.tail("DB/*".parse().unwrap(), TailFrom::Latest).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), Tailed::CaughtUp));
    // Whatever the nodes listen with is cut; publishing goes on at once.
    command(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    publish(&one, &[("b", "k")]).await;
    let next = tokio::time::timeout(seconds(10), tail.next()).await.expect("in time").unwrap();
    assert!(matches!(next, Tailed::Event { position: 2, .. }), "{next:?}");
}

#[tokio::test]
async fn who_is_connected_to_one_node_shows_on_the_other() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    let follows = |filter: &str| vec![Subscription { name: "s".into(), filter: filter.into(), group: None }];
    let joined = one.roster().join(Transport::Sse, Some("customers/1".into()), None, follows("DB/*"));
    let shown = async || other.connections().await.unwrap();
    eventually("the connection shows", async || shown().await.iter().any(|known| known.id == joined.id())).await;
    joined.follow(follows("ORDERS/*"));
    eventually("what it follows now shows", async || {
        shown().await.iter().any(|c| c.subscriptions == follows("ORDERS/*"))
    })
    .await;
    // What a flush takes is told again.
    command(&server, &["FLUSHALL"]).await;
    eventually("it shows again", async || !shown().await.is_empty()).await;
    drop(joined);
    eventually("who left is gone", async || shown().await.is_empty()).await;
    let _second = one.roster().join(Transport::WebSocket, None, None, Vec::new());
    eventually("the next one shows", async || shown().await.len() == 1).await;
    drop(one);
    eventually("a node that is closed takes its own along", async || shown().await.is_empty()).await;
}

#[tokio::test]
async fn of_a_node_that_was_killed_the_others_tell_once() {
    let server = testkit::redis().await;
    let (one, other) = two(&server).await;
    // It told that it was there half a minute ago.
    let then = (time::OffsetDateTime::now_utc().unix_timestamp() - 30) * 1000;
    command(&server, &["ZADD", "tp:nodes", &then.to_string(), "n_killed"]).await;
    let over = CancellationToken::new();
    let telling = [&one, &other].map(|bus| {
        let (bus, over) = (bus.clone(), over.clone());
        tokio::spawn(async move { bus.tell_subscriptions(over).await })
    });
    eventually("it is told", async || !told(&one, "UNSUBSCRIBED").await.is_empty()).await;
    over.cancel();
    for telling in telling {
        telling.await.unwrap();
    }
    let all = told(&one, "UNSUBSCRIBED").await;
    let [(subject, data)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((subject.as_str(), &data["killed"]), ("nodes/n_killed", &true.into()));
}

#[tokio::test]
async fn what_is_published_at_once_shares_an_entry() {
    let server = testkit::redis().await;
    let bus = bus::redis::open_with(&server.url(), Options::default()).await.unwrap();
    bus.declare_queue(Queue::new(queue())).await.unwrap();
    let publishing: Vec<_> = (0..100)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move { publish(&bus, &[(&n.to_string(), "k")]).await })
        })
        .collect();
    for publishing in publishing {
        publishing.await.unwrap();
    }
    let entries: usize = command(&server, &["XLEN", "tp:{DB:0}:s"]).await.parse().unwrap();
    assert!(entries < 50, "{entries} entries for a hundred events");
    assert_eq!(bus.read(&queue(), 0, 1, 1000).await.unwrap().events.len(), 100);
}
