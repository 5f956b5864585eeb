//! One holder at a time, and what a former one still sends.

use std::time::Duration;

use bus::{Bus, Error, Fence, Outcome, PublishOptions, Queue, Refused};

use super::{Lab, event, queue};

const TIME: Duration = Duration::from_secs(10);

async fn lead(bus: &Bus, holder: &str) -> Option<Fence> {
    bus.lead("gate", holder, TIME).await.unwrap()
}

async fn publish(bus: &Bus, fence: &Fence, id: &str, key: &str) -> Outcome {
    let options = PublishOptions { fence: Some(fence.clone()), ..PublishOptions::default() };
    bus.publish_with(vec![event(id, key)], options).await.unwrap().remove(0)
}

pub(crate) async fn a_lease_has_one_holder_until_it_ends(lab: impl Lab) {
    let bus = lab.bus();
    let first = lead(&bus, "a").await.unwrap();
    assert_eq!(lead(&bus, "b").await, None);
    lab.advance(TIME / 2).await;
    assert_eq!(lead(&bus, "a").await, Some(first.clone()), "it goes on under its number");
    lab.advance(TIME - Duration::from_secs(1)).await;
    assert_eq!(lead(&bus, "b").await, None);
    lab.advance(Duration::from_secs(2)).await;
    let second = lead(&bus, "b").await.unwrap();
    assert!(second.number > first.number);
    assert_eq!(lead(&bus, "a").await, None);
    bus.resign("gate", "a").await.unwrap();
    assert_eq!(lead(&bus, "a").await, None, "it wasn't its own to give back");
    bus.resign("gate", "b").await.unwrap();
    assert!(lead(&bus, "a").await.unwrap().number > second.number);
}

pub(crate) async fn who_had_the_lease_before_is_not_heard(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    let first = lead(&bus, "a").await.unwrap();
    for key in 0..8 {
        publish(&bus, &first, &format!("a{key}"), &key.to_string()).await.unwrap();
    }
    lab.advance(TIME * 2).await;
    let second = lead(&bus, "b").await.unwrap();
    assert!(bus.shut_out(&queue(), &second).await.unwrap());
    let refused = Err(Refused::Fenced { current: second.number });
    for key in 0..8 {
        assert_eq!(publish(&bus, &first, &format!("late{key}"), &key.to_string()).await, refused, "{key}");
    }
    assert!(!bus.shut_out(&queue(), &first).await.unwrap());
    publish(&bus, &second, "b", "0").await.unwrap();
    let recorded: u64 = bus.queues().await.unwrap()[0].partitions.iter().map(|partition| partition.next - 1).sum();
    assert_eq!(recorded, 9);
}

pub(crate) async fn a_publish_shuts_out_by_itself(lab: impl Lab) {
    let bus = lab.bus();
    let first = lead(&bus, "a").await.unwrap();
    bus.resign("gate", "a").await.unwrap();
    let second = lead(&bus, "b").await.unwrap();
    publish(&bus, &second, "b", "k").await.unwrap();
    assert_eq!(publish(&bus, &first, "a", "k").await, Err(Refused::Fenced { current: second.number }));
}

pub(crate) async fn a_lease_without_a_name_or_time_is_refused(lab: impl Lab) {
    for (name, time) in [("", TIME), ("a b", TIME), ("gate", Duration::ZERO), ("gate", TIME * 10_000)] {
        let refused = lab.bus().lead(name, "a", time).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name:?} {time:?}: {refused:?}");
    }
}
