//! C16: an event may say which event of its key it follows; and what is known of each key.

use bus::{Bus, Error, Outcome, PublishOptions, Queue, Refused};
use events::Envelope;

use super::{Lab, event, publish, publish_many, queue, seconds};

/// An event that follows the one at this position.
fn after(id: &str, key: &str, version: u64) -> Envelope {
    Envelope { expectedversion: Some(version), ..event(id, key) }
}

async fn one(bus: &Bus, event: Envelope) -> Outcome {
    bus.publish(vec![event]).await.unwrap().remove(0)
}

async fn position(bus: &Bus, event: Envelope) -> u64 {
    one(bus, event).await.unwrap().position.unwrap()
}

async fn keep_latest(bus: &Bus, partitions: u32) {
    bus.declare_queue(Queue { partitions, latest: true, ..Queue::new(queue()) }).await.unwrap();
}

/// The ids of each key's last events, page by page.
async fn view(bus: &Bus, page: usize) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), 0);
    loop {
        let page = bus.latest_page(&queue(), 0, after, page).await.unwrap();
        let Some(last) = page.events.last() else { return ids };
        after = last.position;
        ids.extend(page.events.iter().map(|logged| logged.envelope.id.clone()));
    }
}

pub(crate) async fn a_stale_version_is_refused(lab: impl Lab) {
    let bus = lab.bus();
    keep_latest(&bus, 1).await;
    assert_eq!(position(&bus, after("a", "k", 0)).await, 1);
    assert_eq!(position(&bus, after("b", "k", 1)).await, 2);
    assert_eq!(one(&bus, after("c", "k", 1)).await, Err(Refused::VersionConflict { current: 2 }));
    assert_eq!(one(&bus, after("c", "k", 0)).await, Err(Refused::VersionConflict { current: 2 }));
    assert_eq!(one(&bus, after("c", "other", 2)).await, Err(Refused::VersionConflict { current: 0 }));
    assert_eq!(position(&bus, event("d", "k")).await, 3, "whoever expects nothing isn't refused");
    assert_eq!(one(&bus, after("c", "k", 2)).await, Err(Refused::VersionConflict { current: 3 }));
    let again = one(&bus, after("b", "k", 1)).await.unwrap();
    assert_eq!((again.position, again.duplicate), (Some(2), true), "what was recorded is answered, not judged again");
}

pub(crate) async fn of_racing_writers_one_wins(lab: impl Lab) {
    let bus = lab.bus();
    keep_latest(&bus, 1).await;
    for round in 0..5 {
        let version = bus.latest(&queue(), "k").await.unwrap().map_or(0, |logged| logged.position);
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let bus = bus.clone();
                tokio::spawn(async move { one(&bus, after(&format!("{round}-{racer}"), "k", version)).await })
            })
            .collect();
        let mut won = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                Ok(recorded) => won.push(recorded.position.unwrap()),
                Err(refused) => assert!(matches!(refused, Refused::VersionConflict { .. }), "{refused}"),
            }
        }
        assert_eq!(won, [version + 1]);
    }
}

pub(crate) async fn events_of_a_batch_see_those_before_them(lab: impl Lab) {
    let bus = lab.bus();
    keep_latest(&bus, 1).await;
    let batch = vec![after("a", "k", 0), after("b", "k", 1), after("c", "l", 0), after("d", "k", 2)];
    assert!(bus.publish(batch).await.unwrap().iter().all(Result::is_ok));
    let batch = vec![after("e", "k", 4), after("f", "k", 4), event("g", "k")];
    let outcomes = bus.publish(batch).await.unwrap();
    let refused = Err(Refused::VersionConflict { current: 5 });
    assert_eq!(outcomes, [Err(Refused::Batch), refused, Err(Refused::Batch)], "all or none");
    assert_eq!(position(&bus, after("e", "k", 4)).await, 5);
    let options = PublishOptions {
        producer: Some(bus::Producer { outbox: "o".into(), first_publish_no: 1 }),
        ..PublishOptions::default()
    };
    let numbered = bus.publish_with(vec![after("n", "k", 4)], options.clone()).await.unwrap().remove(0);
    assert_eq!(numbered, Err(Refused::VersionConflict { current: 5 }));
    let numbered = bus.publish_with(vec![after("n", "k", 5)], options).await.unwrap().remove(0);
    assert_eq!(numbered.unwrap().position, Some(6), "a number that was refused was not used");
}

pub(crate) async fn versions_need_a_queue_that_knows_them(lab: impl Lab) {
    let bus = lab.bus();
    let refused = one(&bus, after("a", "k", 0)).await;
    assert!(matches!(&refused, Err(Refused::Invalid(text)) if text.starts_with("expectedversion")), "{refused:?}");
    assert!(bus.queues().await.unwrap().is_empty(), "nothing came of it");
    assert!(matches!(bus.latest(&queue(), "k").await, Err(Error::NoQueue(_))));
    publish(&bus, &[("a", "k")]).await;
    assert!(matches!(bus.latest(&queue(), "k").await, Err(Error::Invalid(_))));
    assert!(matches!(bus.latest_page(&queue(), 0, 0, 10).await, Err(Error::Invalid(_))));
}

pub(crate) async fn each_keys_last_event_is_known(mut lab: impl Lab) {
    keep_latest(&lab.bus(), 1).await;
    publish(&lab.bus(), &[("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("a3", "a")]).await;
    for _ in 0..2 {
        let bus = lab.bus();
        let last = bus.latest(&queue(), "a").await.unwrap().unwrap();
        assert_eq!((last.envelope.id.as_str(), last.position, last.envelope.sequence), ("a3", 5, Some(5)));
        assert!(bus.latest(&queue(), "d").await.unwrap().is_none());
        assert_eq!(view(&bus, 10).await, ["b1", "c1", "a3"]);
        assert_eq!(view(&bus, 1).await, ["b1", "c1", "a3"], "page by page");
        assert_eq!(bus.latest_page(&queue(), 0, 0, 10).await.unwrap().next, 6);
        lab.kill_and_reopen().await;
    }
    publish(&lab.bus(), &[("b2", "b")]).await;
    assert_eq!(view(&lab.bus(), 10).await, ["c1", "a3", "b2"]);
    assert_eq!(position(&lab.bus(), after("b3", "b", 6)).await, 7);
}

pub(crate) async fn every_partition_has_its_view(lab: impl Lab) {
    let bus = lab.bus();
    keep_latest(&bus, 4).await;
    publish_many(&bus, 0..300).await;
    let mut ids = std::collections::BTreeSet::new();
    for partition in 0..4 {
        let page = bus.latest_page(&queue(), partition, 0, 1000).await.unwrap();
        assert!(page.events.is_sorted_by_key(|logged| logged.position));
        ids.extend(page.events.iter().map(|logged| logged.envelope.id.clone()));
    }
    assert_eq!(ids.len(), 300);
    assert!(matches!(bus.latest_page(&queue(), 4, 0, 10).await, Err(Error::Invalid(_))));
    assert_eq!(bus.latest(&queue(), "77").await.unwrap().unwrap().envelope.id, "77");
}

pub(crate) async fn trimmed_events_leave_the_view(lab: impl Lab) {
    let bus = lab.bus();
    let settings = Queue { max_age: seconds(3600), latest: true, ..Queue::new(queue()) };
    bus.declare_queue(settings).await.unwrap();
    publish(&bus, &[("a1", "a"), ("b1", "b")]).await;
    lab.advance(seconds(3000)).await;
    publish(&bus, &[("b2", "b"), ("c1", "c")]).await;
    for _ in 0..3 {
        lab.advance(seconds(300)).await;
    }
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].floor, 3);
    assert_eq!(view(&bus, 10).await, ["b2", "c1"]);
    assert!(bus.latest(&queue(), "a").await.unwrap().is_none());
    assert_eq!(
        one(&bus, after("a2", "a", 1)).await,
        Err(Refused::VersionConflict { current: 0 }),
        "it has none any more"
    );
    assert_eq!(position(&bus, after("a2", "a", 0)).await, 5);
}

pub(crate) async fn a_view_of_events_that_were_there_is_built(mut lab: impl Lab) {
    publish_many(&lab.bus(), 0..1500).await;
    publish(&lab.bus(), &[("again", "7")]).await;
    keep_latest(&lab.bus(), 1).await;
    assert_eq!(view(&lab.bus(), 400).await.len(), 1500);
    assert_eq!(lab.bus().latest(&queue(), "7").await.unwrap().unwrap().position, 1501);
    assert_eq!(one(&lab.bus(), after("x", "7", 8)).await, Err(Refused::VersionConflict { current: 1501 }));
    lab.kill_and_reopen().await;
    assert_eq!(position(&lab.bus(), after("x", "7", 1501)).await, 1502);
    lab.bus().declare_queue(Queue::new(queue())).await.unwrap();
    assert!(matches!(lab.bus().latest(&queue(), "7").await, Err(Error::Invalid(_))), "and it is forgotten");
    publish(&lab.bus(), &[("y", "7")]).await;
    keep_latest(&lab.bus(), 1).await;
    assert_eq!(lab.bus().latest(&queue(), "7").await.unwrap().unwrap().position, 1503, "it is built anew");
}
