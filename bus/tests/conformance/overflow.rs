//! C18: what a full queue does, and what is lost by it.

use bus::{
    Bus, Gap, GapReason, LostRange, Mode, Outcome, Overflow, Producer, PublishOptions, Queue, Refused, Standing,
    TailFrom, Tailed,
};
use serde_json::json;

use super::{Lab, ack, claim, declare, event, ids, publish, publish_many, queue, seconds, settle, status};

/// The queue DB, which keeps at most so many events.
async fn limit(bus: &Bus, length: u64, overflow: Overflow) {
    bus.declare_queue(Queue { max_len: Some(length), overflow, ..Queue::new(queue()) }).await.unwrap();
}

async fn try_publish(bus: &Bus, ids: &[&str]) -> Vec<Outcome> {
    bus.publish(ids.iter().map(|id| event(id, id)).collect()).await.unwrap()
}

fn is_full(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Err(Refused::Full { retry_after }) if !retry_after.is_zero()))
}

/// Of the queue's only partition: floor, next, bytes.
async fn kept(bus: &Bus) -> (u64, u64, u64) {
    let queues = bus.queues().await.unwrap();
    let partition = &queues.iter().find(|status| status.settings.name == queue()).unwrap().partitions[0];
    (partition.floor, partition.next, partition.bytes)
}

fn lost(from: u64, to: u64) -> LostRange {
    LostRange { partition: 0, from, to }
}

pub(crate) async fn a_full_queue_refuses_and_takes_again(mut lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 5, Overflow::Reject).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..5).await;
    assert!(is_full(&try_publish(&bus, &["5"]).await));
    let again = publish(&bus, &[("4", "4")]).await[0];
    assert_eq!((again.position, again.duplicate), (Some(5), true), "what is there needs no room");
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert!(is_full(&try_publish(&bus, &["5"]).await), "after a restart too");
    lab.advance(seconds(31)).await;
    ack(&bus, "g", &claim(&bus, "g", 1).await).await;
    assert!(is_full(&try_publish(&bus, &["5", "6"]).await), "a batch is recorded whole or not at all");
    let recorded = try_publish(&bus, &["5"]).await.remove(0).unwrap();
    assert_eq!(recorded.position, Some(6), "positions stay dense");
    assert!(is_full(&try_publish(&bus, &["6"]).await));
    assert_eq!(status(&bus, "g").await.lost, 0);
    let rest = claim(&bus, "g", 10).await;
    assert_eq!(ids(&rest), ["1", "2", "3", "4", "5"], "nothing was lost");
}

pub(crate) async fn what_no_group_needs_makes_room(lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 5, Overflow::Reject).await;
    for id in 0..20 {
        publish_many(&bus, id..id + 1).await;
    }
    let (floor, next, _) = kept(&bus).await;
    assert_eq!((floor, next), (16, 21), "the newest are kept");
    declare(&bus, "g", Mode::Keyed).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["15", "16", "17", "18", "19"]);
}

pub(crate) async fn the_oldest_make_room_and_are_lost(mut lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 4, Overflow::DropOldest).await;
    declare(&bus, "slow", Mode::Keyed).await;
    declare(&bus, "quick", Mode::Parallel).await;
    publish_many(&bus, 0..4).await;
    ack(&bus, "quick", &claim(&bus, "quick", 10).await).await;
    let leased = claim(&bus, "slow", 2).await;
    ack(&bus, "slow", &leased[1..]).await;
    publish_many(&bus, 4..7).await;
    assert_eq!(kept(&bus).await.0, 4);
    let stands = bus.standing(&queue(), 0, 1).await.unwrap();
    assert_eq!(
        (&stands["slow"], &stands["quick"]),
        (&Standing::Lost, &Standing::Unknown),
        "who had settled it lost none"
    );
    let slow = status(&bus, "slow").await;
    assert_eq!((slow.lost, slow.lost_ranges, slow.next), (2, vec![lost(1, 2), lost(3, 4)], vec![4]));
    assert_eq!(status(&bus, "quick").await.lost, 0);
    assert!(settle(&bus, "slow", leased[0].token, bus::Verb::Ack).await.is_err(), "its lease is lost with it");
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    let slow = status(&bus, "slow").await;
    assert_eq!((slow.lost, slow.lost_ranges, slow.in_flight), (2, vec![lost(1, 2), lost(3, 4)], 0));
    assert_eq!(bus.standing(&queue(), 0, 3).await.unwrap()["slow"], Standing::Lost);
    assert_eq!(ids(&claim(&bus, "slow", 10).await), ["3", "4", "5", "6"]);
}

pub(crate) async fn a_batch_larger_than_its_queue_is_kept_until_the_next(lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 4, Overflow::DropOldest).await;
    publish_many(&bus, 0..8).await;
    assert_eq!(kept(&bus).await.0, 1);
    publish_many(&bus, 8..9).await;
    assert_eq!(kept(&bus).await.0, 6);
    limit(&bus, 4, Overflow::Reject).await;
    assert!(try_publish(&bus, &["a", "b", "c", "d", "e"]).await.iter().all(Result::is_ok), "no group needs any of it");
    declare(&bus, "g", Mode::Parallel).await;
    assert!(is_full(&try_publish(&bus, &["f"]).await));
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    assert!(try_publish(&bus, &["f"]).await[0].is_ok());
    assert_eq!(kept(&bus).await, (12, 16, kept(&bus).await.2));
}

pub(crate) async fn publishes_at_once_find_the_room_there_is(lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 5, Overflow::Reject).await;
    let at_once = async || {
        let publishing = (0..50).map(|_| bus.publish(vec![event(&uuid::Uuid::new_v4().to_string(), "k")]));
        let outcomes = futures_util::future::join_all(publishing).await;
        outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap()[0].is_ok()).count()
    };
    assert_eq!(at_once().await, 50, "no group needs any");
    publish_many(&bus, 0..1).await;
    declare(&bus, "g", Mode::Parallel).await;
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    assert_eq!(at_once().await, 5, "and then the group has settled none of them");
    assert_eq!(status(&bus, "g").await.lost, 0);
}

pub(crate) async fn a_queue_keeps_no_more_bytes_than_it_may(mut lab: impl Lab) {
    const BYTES: u64 = 1 << 20;
    let bus = lab.bus();
    bus.declare_queue(Queue { max_bytes: Some(BYTES), ..Queue::new(queue()) }).await.unwrap();
    let big = |id: &str| event(id, "k").data(json!("x".repeat(200 << 10)));
    for id in 0..12 {
        bus.publish(vec![big(&id.to_string())]).await.unwrap().remove(0).unwrap();
    }
    let (floor, next, bytes) = kept(&bus).await;
    assert_eq!((floor, next), (8, 13), "five of 200 KiB fit");
    assert!((5 * (200 << 10)..BYTES).contains(&bytes), "{bytes}");
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert_eq!(kept(&bus).await, (8, 13, bytes), "counted exactly, whatever happens");
    declare(&bus, "g", Mode::Parallel).await;
    assert!(is_full(&bus.publish(vec![big("a")]).await.unwrap()));
    assert!(try_publish(&bus, &["small"]).await[0].is_ok(), "a small one fits still");
    bus.declare_queue(Queue { max_bytes: Some(BYTES), overflow: Overflow::DropOldest, ..Queue::new(queue()) })
        .await
        .unwrap();
    bus.publish(vec![big("b")]).await.unwrap().remove(0).unwrap();
    assert_eq!(kept(&bus).await.0, 9);
    assert_eq!(status(&bus, "g").await.lost_ranges, [lost(8, 9)]);
}

pub(crate) async fn a_lowered_limit_is_reached_by_trimming(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..2500).await;
    limit(&bus, 100, Overflow::Reject).await;
    for _ in 0..10 {
        lab.advance(seconds(60)).await;
    }
    assert_eq!(kept(&bus).await.0, 1, "the group has settled none");
    limit(&bus, 100, Overflow::DropOldest).await;
    for _ in 0..10 {
        lab.advance(seconds(60)).await;
    }
    assert_eq!(kept(&bus).await.0, 2401);
    assert_eq!(status(&bus, "g").await.lost_ranges, [lost(1, 2401)]);
}

pub(crate) async fn readers_are_told_what_was_dropped(lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 3, Overflow::DropOldest).await;
    publish_many(&bus, 0..3).await;
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), Tailed::Event { position: 1, .. }));
    let cursor = tail.cursor();
    for id in 3..7 {
        publish_many(&bus, id..id + 1).await;
    }
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Cursor(cursor)).await.unwrap();
    match tail.next().await.unwrap() {
        Tailed::Gap(gap) => {
            assert_eq!(gap, Gap { partition: 0, from: 2, to: 5, lost: Some(3), reason: GapReason::Retention });
        }
        other => panic!("no gap: {other:?}"),
    }
    assert!(matches!(tail.next().await.unwrap(), Tailed::Event { position: 5, .. }));
}

pub(crate) async fn a_refused_number_is_next_still(lab: impl Lab) {
    let bus = lab.bus();
    limit(&bus, 2, Overflow::Reject).await;
    declare(&bus, "g", Mode::Parallel).await;
    let send = async |first_publish_no, ids: &[&str]| {
        let producer = Some(Producer { outbox: "product".into(), first_publish_no });
        let events = ids.iter().map(|id| event(id, "k")).collect();
        bus.publish_with(events, PublishOptions { producer, ..Default::default() }).await.unwrap()
    };
    assert!(send(1, &["a", "b"]).await.iter().all(Result::is_ok));
    assert!(is_full(&send(3, &["c"]).await));
    assert!(send(2, &["b"]).await[0].as_ref().unwrap().duplicate);
    ack(&bus, "g", &claim(&bus, "g", 2).await).await;
    assert_eq!(send(3, &["c"]).await[0].as_ref().unwrap().position, Some(3));
}
