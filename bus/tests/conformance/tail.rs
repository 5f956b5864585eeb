//! Tails and cursors: replay, then follow, and gaps that are told.

use std::time::Duration;

use bus::{Ahead, Cursor, Gap, GapReason, Mode, Queue, Tail, TailFrom, Tailed};
use events::{Envelope, Filter, Name};

use super::{Lab, ack, claim, declare, event, publish, publish_many, queue, seconds};

fn all() -> Filter {
    "DB/*".parse().unwrap()
}

async fn next(tail: &mut Tail) -> Tailed {
    tokio::time::timeout(seconds(5), tail.next()).await.expect("something comes").unwrap()
}

async fn next_id(tail: &mut Tail) -> String {
    match next(tail).await {
        Tailed::Event { envelope, .. } => envelope.id.clone(),
        other => panic!("no event: {other:?}"),
    }
}

async fn caught_up(tail: &mut Tail) {
    let next = next(tail).await;
    assert!(matches!(next, Tailed::CaughtUp), "{next:?}");
}

pub(crate) async fn it_replays_then_follows(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..600).await;
    let mut tail = bus.tail(all(), TailFrom::Earliest).await.unwrap();
    for id in 0..600 {
        assert_eq!(next_id(&mut tail).await, id.to_string());
    }
    caught_up(&mut tail).await;
    let waiting = tokio::spawn(async move { (next_id(&mut tail).await, tail) });
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish_many(&bus, 600..601).await;
    assert_eq!(waiting.await.unwrap().0, "600");
}

pub(crate) async fn a_cursor_goes_on_where_it_was(mut lab: impl Lab) {
    publish_many(&lab.bus(), 0..10).await;
    let mut tail = lab.bus().tail(all(), TailFrom::Earliest).await.unwrap();
    for _ in 0..4 {
        next(&mut tail).await;
    }
    let cursor: Cursor = tail.cursor().to_string().parse().unwrap();
    assert_eq!(cursor.position(0), Some(4));
    lab.kill_and_reopen().await;
    publish_many(&lab.bus(), 10..11).await;
    let mut tail = lab.bus().tail(all(), TailFrom::Cursor(cursor)).await.unwrap();
    for id in 4..11 {
        assert_eq!(next_id(&mut tail).await, id.to_string(), "a restart that lost nothing is no gap");
    }
    caught_up(&mut tail).await;
    let unknown: Cursor = lab_cursor(u64::from(u32::MAX), 3);
    let mut tail = lab.bus().tail(all(), TailFrom::Cursor(unknown)).await.unwrap();
    match next(&mut tail).await {
        Tailed::Gap(gap) => assert_eq!((gap.reason, gap.lost, gap.to), (GapReason::Reset, None, 1)),
        other => panic!("a cursor of another log: {other:?}"),
    }
    assert_eq!(next_id(&mut tail).await, "0");
}

/// A cursor of partition 0 as a client might hold it.
fn lab_cursor(lineage: u64, position: u64) -> Cursor {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut bytes = vec![1, 0, 0, 0, 0];
    bytes.extend(lineage.to_be_bytes());
    bytes.extend(position.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes).parse().unwrap()
}

pub(crate) async fn a_filter_is_kept_and_the_cursor_moves(lab: impl Lab) {
    let bus = lab.bus();
    let update = |id: &str| Envelope { event: Name::new("UPDATE").unwrap(), ..event(id, "k") };
    bus.publish(vec![event("a", "k"), update("b"), event("c", "k")]).await.unwrap();
    let mut tail = bus.tail("DB/UPDATE".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert_eq!(next_id(&mut tail).await, "b");
    assert_eq!(tail.cursor().position(0), Some(2));
    caught_up(&mut tail).await;
    assert_eq!(tail.cursor().position(0), Some(3), "past what the filter refused");
}

pub(crate) async fn a_condition_is_kept(lab: impl Lab) {
    let bus = lab.bus();
    bus.publish(vec![event("a", "products/1"), event("b", "orders/1"), event("c", "products/2")]).await.unwrap();
    let mut tail = bus.tail("DB/*[subject^=products/]".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert_eq!(next_id(&mut tail).await, "a");
    assert_eq!(next_id(&mut tail).await, "c");
    caught_up(&mut tail).await;
}

pub(crate) async fn trimmed_events_are_told_as_a_gap(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..5).await;
    let mut tail = bus.tail(all(), TailFrom::Earliest).await.unwrap();
    assert_eq!(next_id(&mut tail).await, "0");
    let cursor = tail.cursor();
    lab.advance(seconds(8 * 86_400)).await;
    publish_many(&bus, 5..6).await;
    let mut tail = bus.tail(all(), TailFrom::Cursor(cursor)).await.unwrap();
    let gap = Gap { partition: 0, from: 2, to: 6, lost: Some(4), reason: GapReason::Retention };
    match next(&mut tail).await {
        Tailed::Gap(told) => assert_eq!(told, gap),
        other => panic!("no gap: {other:?}"),
    }
    assert_eq!(next_id(&mut tail).await, "5");
}

pub(crate) async fn several_partitions_are_all_followed(lab: impl Lab) {
    let bus = lab.bus();
    let mut tail = bus.tail(all(), TailFrom::Latest).await.unwrap();
    caught_up(&mut tail).await;
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    publish_many(&bus, 0..40).await;
    let mut seen = std::collections::BTreeMap::<u32, u64>::new();
    for _ in 0..40 {
        match next(&mut tail).await {
            Tailed::Event { partition, position, .. } => {
                let last = seen.entry(partition).or_default();
                assert_eq!(position, *last + 1);
                *last = position;
            }
            other => panic!("no event: {other:?}"),
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(tail.cursor().position(3), seen.get(&3).copied());
}

pub(crate) async fn no_more_is_read_ahead_than_may_be(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    let padding = "x".repeat(1_000);
    let events = (0..80).map(|id| event(&id.to_string(), &id.to_string()).data(serde_json::json!(padding)));
    bus.publish(events.collect()).await.unwrap();
    for ahead in
        [Ahead { events: 3, bytes: 1 << 20 }, Ahead { events: 128, bytes: 4_000 }, Ahead { events: 1, bytes: 1 }]
    {
        let mut tail = bus.tail(all(), TailFrom::Earliest).await.unwrap();
        tail.read_ahead(ahead);
        let (mut seen, mut most) = ([0; 4], Ahead { events: 0, bytes: 0 });
        for _ in 0..80 {
            let Tailed::Event { partition, position, .. } = next(&mut tail).await else { panic!("no event") };
            assert_eq!(position, seen[partition as usize] + 1, "each in its order");
            seen[partition as usize] = position;
            let held = tail.held();
            most = Ahead { events: most.events.max(held.events), bytes: most.bytes.max(held.bytes) };
        }
        caught_up(&mut tail).await;
        assert!(most.events < ahead.events && most.bytes < ahead.bytes, "{most:?} of {ahead:?}");
        assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
    }
}

pub(crate) async fn latest_begins_now(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("old", "k")]).await;
    let mut tail = bus.tail(all(), TailFrom::Latest).await.unwrap();
    publish(&bus, &[("new", "k")]).await;
    assert_eq!(next_id(&mut tail).await, "new");
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    caught_up(&mut tail).await;
}
