//! C1, C2: what a publish promises.

use bus::{Confirm, Error, Mode, PublishOptions, Queue, Refused};
use events::{Envelope, Name};
use serde_json::json;
use time::OffsetDateTime;

use super::{Lab, ack, claim, declare, event, ids, publish, publish_many, queue};

pub(crate) async fn positions_are_dense_and_in_the_order_of_publishing(lab: impl Lab) {
    let bus = lab.bus();
    let first = publish(&bus, &[("a", "k"), ("b", "l")]).await;
    let second = publish(&bus, &[("c", "k")]).await;
    let positions: Vec<_> = first.iter().chain(&second).map(|recorded| recorded.position).collect();
    assert_eq!(positions, [Some(1), Some(2), Some(3)]);
    assert!(first.iter().chain(&second).all(|recorded| !recorded.duplicate));
    declare(&bus, "g", Mode::Parallel).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["a", "b", "c"]);
    assert_eq!(leased[2].position, 3);
    assert!(leased[2].envelope.recordedtime.is_some());
    assert_eq!(leased[2].envelope.sequence, Some(3));
}

pub(crate) async fn the_head_is_where_it_is_wherever_one_reads(lab: impl Lab) {
    let bus = lab.bus();
    publish(&bus, &[("a", "k"), ("b", "l")]).await;
    for from in [1, 2, 3, 4, 1_000, u64::MAX >> 1] {
        let page = bus.read(&queue(), 0, from, 10).await.unwrap();
        assert_eq!((page.next, page.floor), (3, 1), "read from {from}");
        assert_eq!(page.events.len() as u64, 3_u64.saturating_sub(from), "read from {from}");
    }
}

pub(crate) async fn events_of_one_key_share_a_partition(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    let mut used = std::collections::BTreeSet::new();
    for key in 0..20 {
        let key = format!("products/{key}");
        let assigned = bus.partition(&queue(), &key).await.unwrap();
        assert_eq!(assigned.count, 4);
        for turn in 0..3 {
            let id = format!("{key}-{turn}").replace('/', "-");
            assert_eq!(publish(&bus, &[(&id, &key)]).await[0].partition, assigned.index);
        }
        used.insert(assigned.index);
    }
    assert_eq!(used.len(), 4, "twenty keys reach every partition");
    let queues = bus.queues().await.unwrap();
    let events: u64 = queues[0].partitions.iter().map(|partition| partition.next - 1).sum();
    assert_eq!(events, 60, "positions are dense in each partition");
}

pub(crate) async fn what_breaks_a_rule_is_refused_by_name(lab: impl Lab) {
    let bus = lab.bus();
    for (event, field) in [
        (event("with.dot", "k"), "id"),
        (event(&"x".repeat(129), "k"), "id"),
        (event("a", "k").priority(10), "priority"),
        (event("a", "k").data(json!("x".repeat(300 << 10))), "data"),
        (
            Envelope { deliverytime: Some(OffsetDateTime::now_utc() + time::Duration::days(400)), ..event("a", "k") },
            "deliverytime",
        ),
        (Envelope { expectedversion: Some(1), ..event("a", "k") }, "expectedversion"),
    ] {
        match bus.publish(vec![event]).await.unwrap().remove(0) {
            Err(Refused::Invalid(sentence)) => assert!(sentence.starts_with(field), "{sentence}"),
            other => panic!("{field}: {other:?}"),
        }
    }
    let many = (0..257).map(|n| event(&n.to_string(), "k")).collect();
    assert!(matches!(bus.publish(many).await, Err(Error::Invalid(_))));
    assert!(bus.queues().await.unwrap().is_empty(), "nothing was recorded");
}

pub(crate) async fn a_refused_event_takes_its_batch_along(lab: impl Lab) {
    let bus = lab.bus();
    let outcomes = bus.publish(vec![event("a", "k"), event("b.", "k"), event("c", "k")]).await.unwrap();
    assert_eq!(outcomes[0], Err(Refused::Batch));
    assert!(matches!(outcomes[1], Err(Refused::Invalid(_))));
    assert_eq!(outcomes[2], Err(Refused::Batch));
    assert_eq!(publish(&bus, &[("a", "k")]).await[0].position, Some(1));
}

pub(crate) async fn fsynced_is_confirmed(lab: impl Lab) {
    let bus = lab.bus();
    let options = PublishOptions { confirm: Confirm::Fsynced, ..PublishOptions::default() };
    let outcomes = bus.publish_with(vec![event("a", "k")], options).await.unwrap();
    let recorded = outcomes[0].as_ref().unwrap();
    assert_eq!((recorded.position, recorded.confirmed), (Some(1), Confirm::Fsynced));
    let recorded = publish(&bus, &[("b", "k")]).await[0];
    assert_eq!((recorded.position, recorded.confirmed), (Some(2), Confirm::Stored));
}

pub(crate) async fn what_nobody_replicates_is_not_confirmed_as_if_it_were(lab: impl Lab) {
    let bus = lab.bus();
    let replicated = PublishOptions { confirm: Confirm::Replicated(1), ..PublishOptions::default() };
    let refused = bus.publish_with(vec![event("a", "k")], replicated.clone()).await;
    assert!(matches!(refused, Err(Error::NotGiven(_))), "{refused:?}");
    assert!(bus.queues().await.unwrap().is_empty(), "nothing was recorded");
    let degraded = PublishOptions { allow_degraded: true, ..replicated };
    let outcome = bus.publish_with(vec![event("a", "k")], degraded).await.unwrap().remove(0).unwrap();
    assert_eq!((outcome.position, outcome.confirmed), (Some(1), Confirm::Stored));
}

pub(crate) async fn partitions_are_fixed_once_there_are_events(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 2, ..Queue::new(queue()) }).await.unwrap();
    bus.declare_queue(Queue { partitions: 3, ..Queue::new(queue()) }).await.unwrap();
    publish(&bus, &[("a", "k")]).await;
    let other = bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await;
    assert!(matches!(other, Err(Error::Conflict(_))), "{other:?}");
    bus.declare_queue(Queue { partitions: 3, ..Queue::new(queue()) }).await.unwrap();
    let none = bus.declare_queue(Queue { partitions: 0, ..Queue::new(queue()) }).await;
    assert!(matches!(none, Err(Error::Invalid(_))), "{none:?}");
}

pub(crate) async fn every_group_gets_every_event(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["logger", "notifier"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    publish_many(&bus, 0..500).await;
    for group in ["logger", "notifier"] {
        let mut seen = 0;
        loop {
            let leased = claim(&bus, group, 64).await;
            if leased.is_empty() {
                break;
            }
            for leased in &leased {
                seen += 1;
                assert_eq!(leased.position, seen, "in order, none missing");
            }
            ack(&bus, group, &leased).await;
        }
        assert_eq!(seen, 500);
        assert_eq!(super::status(&bus, group).await.lag, 0);
    }
}

pub(crate) async fn events_are_counted_by_queue_level_and_result(lab: impl Lab) {
    let bus = lab.bus();
    let counted = Name::new("COUNTED").unwrap();
    let of = |id: &str| Envelope { queue: counted.clone(), ..event(id, "k") };
    for id in ["a", "a"] {
        bus.publish(vec![of(id)]).await.unwrap().remove(0).unwrap();
    }
    let fsynced = PublishOptions { confirm: Confirm::Fsynced, allow_degraded: true, ..PublishOptions::default() };
    let reached = bus.publish_with(vec![of("b")], fsynced).await.unwrap().remove(0).unwrap().confirmed;
    assert!(bus.publish(vec![of("no.id")]).await.unwrap()[0].is_err());
    let text = telemetry::render();
    let is_told = |confirm: Confirm, result: &str| {
        let labels = ["queue=\"COUNTED\"".to_owned(), format!("confirm=\"{confirm}\""), format!("result=\"{result}\"")];
        text.lines().any(|line| {
            line.starts_with("turnpike_bus_publish_total{") && labels.iter().all(|label| line.contains(label))
        })
    };
    for (confirm, result) in [
        (Confirm::Stored, "recorded"),
        (Confirm::Stored, "duplicate"),
        (Confirm::Stored, "refused"),
        (reached, "recorded"),
    ] {
        assert!(is_told(confirm, result), "{confirm} {result}: {text}");
    }
}
