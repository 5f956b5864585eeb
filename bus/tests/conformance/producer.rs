//! Publish numbers: a relay may repeat itself.

use bus::{Bus, Outcome, Producer, PublishOptions, Queue, Refused};

use super::{Lab, event, publish, queue};

async fn relay(bus: &Bus, first_publish_no: u64, ids: &[&str], expect_lineage: Option<u64>) -> Vec<Outcome> {
    let producer = Some(Producer { outbox: "product".into(), first_publish_no });
    let options = PublishOptions { producer, expect_lineage, ..PublishOptions::default() };
    bus.publish_with(ids.iter().map(|id| event(id, "k")).collect(), options).await.unwrap()
}

fn places(outcomes: Vec<Outcome>) -> Vec<(Option<u64>, bool)> {
    outcomes.into_iter().map(Result::unwrap).map(|recorded| (recorded.position, recorded.duplicate)).collect()
}

pub(crate) async fn a_repeated_number_is_harmless(lab: impl Lab) {
    let bus = lab.bus();
    assert_eq!(places(relay(&bus, 1, &["a", "b"], None).await), [(Some(1), false), (Some(2), false)]);
    publish(&bus, &[("between", "k")]).await;
    // Killed between publish and mark, the relay sends both again, with one more.
    let again = places(relay(&bus, 1, &["a", "b", "c"], None).await);
    assert_eq!(again, [(Some(1), true), (Some(2), true), (Some(4), false)]);
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].next, 5);
}

pub(crate) async fn a_gap_in_the_numbers_is_refused(lab: impl Lab) {
    let bus = lab.bus();
    relay(&bus, 1, &["a"], None).await;
    assert_eq!(relay(&bus, 3, &["c"], None).await, [Err(Refused::OutOfSequence { expected: 2 })]);
    assert_eq!(places(relay(&bus, 2, &["b"], None).await), [(Some(2), false)]);
}

pub(crate) async fn any_first_number_is_taken(lab: impl Lab) {
    let bus = lab.bus();
    assert_eq!(places(relay(&bus, 41, &["a"], None).await), [(Some(1), false)]);
    assert_eq!(places(relay(&bus, 42, &["b"], None).await), [(Some(2), false)]);
    assert_eq!(places(relay(&bus, 41, &["a"], None).await), [(Some(1), true)]);
}

pub(crate) async fn numbers_survive_a_kill(mut lab: impl Lab) {
    relay(&lab.bus(), 1, &["a", "b"], None).await;
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert_eq!(places(relay(&bus, 2, &["b"], None).await), [(Some(2), true)]);
    assert_eq!(relay(&bus, 4, &["d"], None).await, [Err(Refused::OutOfSequence { expected: 3 })]);
}

pub(crate) async fn an_unexpected_lineage_is_refused(mut lab: impl Lab) {
    let bus = lab.bus();
    assert_eq!(relay(&bus, 1, &["a"], Some(7)).await, [Err(Refused::LineageChanged { current: None })]);
    relay(&bus, 1, &["a"], None).await;
    let lineage = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    assert_eq!(places(relay(&bus, 2, &["b"], Some(lineage.id)).await), [(Some(2), false)]);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    let current = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    assert_ne!(current.id, lineage.id);
    let refused = relay(&bus, 3, &["c"], Some(lineage.id)).await;
    assert_eq!(refused, [Err(Refused::LineageChanged { current: Some(current.id) })]);
    let lineages = bus.lineages(&queue(), 0).await.unwrap();
    assert!(lineages.holds(lineage.id, 2), "what was confirmed is still there");
    assert!(!lineages.holds(lineage.id, 3));
    assert_eq!(places(relay(&bus, 3, &["c"], Some(current.id)).await), [(Some(3), false)]);
}

pub(crate) async fn numbers_belong_to_one_partition(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 8, ..Queue::new(queue()) }).await.unwrap();
    let producer = Some(Producer { outbox: "product".into(), first_publish_no: 1 });
    let options = PublishOptions { producer, ..PublishOptions::default() };
    let events = (0..20).map(|n| event(&n.to_string(), &format!("k{n}"))).collect();
    let outcomes = bus.publish_with(events, options).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Err(Refused::SeveralPartitions)));
}

pub(crate) async fn a_number_that_can_not_be_counted_on_from_is_refused(lab: impl Lab) {
    let bus = lab.bus();
    for first in [u64::MAX, i64::MAX.cast_unsigned()] {
        let outcomes = relay(&bus, first, &["a", "b"], None).await;
        assert!(matches!(outcomes[..], [Err(Refused::Invalid(_)), Err(Refused::Invalid(_))]), "{outcomes:?}");
    }
    assert_eq!(places(relay(&bus, 1, &["a"], None).await), [(Some(1), false)], "the bus lives on");
}
