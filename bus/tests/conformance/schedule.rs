//! C10: events that wait for their time, and that are taken back. F25: many that are due at once.

use std::time::Duration;

use bus::{Bus, Mode, Outcome, Producer, PublishOptions, Queue, Refused, Scheduled};
use events::Envelope;
use time::OffsetDateTime;

use super::{Lab, ack, claim, declare, event, eventually, ids, publish, queue, seconds};

/// An event that is due so long after `now`.
fn later(id: &str, key: &str, now: OffsetDateTime, after: Duration) -> Envelope {
    Envelope { deliverytime: Some(now + after), ..event(id, key) }
}

async fn one(bus: &Bus, event: Envelope) -> Outcome {
    bus.publish(vec![event]).await.unwrap().remove(0)
}

/// The ids of what was recorded, in its order.
async fn log(bus: &Bus) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), 1);
    loop {
        let page = bus.read(&queue(), 0, from, 1000).await.unwrap();
        let Some(last) = page.events.last() else { return ids };
        from = last.position + 1;
        ids.extend(page.events.iter().map(|logged| logged.envelope.id.clone()));
    }
}

fn waiting(scheduled: &[Scheduled]) -> Vec<&str> {
    scheduled.iter().map(|scheduled| scheduled.envelope.id.as_str()).collect()
}

pub(crate) async fn it_is_recorded_at_its_time(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    declare(&bus, "g", Mode::Keyed).await;
    let scheduled = one(&bus, later("a", "k", now, seconds(60))).await.unwrap();
    assert_eq!((scheduled.position, scheduled.duplicate), (None, false));
    assert_eq!(scheduled.due.unwrap().unix_timestamp(), (now + seconds(60)).unix_timestamp());
    assert_eq!(publish(&bus, &[("b", "k")]).await[0].position, Some(1), "what comes now goes before");
    lab.advance(seconds(59)).await;
    assert_eq!(log(&bus).await, ["b"]);
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].scheduled, 1);
    lab.advance(seconds(2)).await;
    eventually("it is recorded", async || log(&bus).await == ["b", "a"]).await;
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].scheduled, 0);
    assert!(bus.scheduled(&queue(), None, 10).await.unwrap().is_empty());
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["b"], "its key's turn");
    ack(&bus, "g", &leased).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["a"]);
    assert!(leased[0].envelope.recordedtime.unwrap() >= now + seconds(60));
}

pub(crate) async fn the_order_is_that_of_time_then_of_arrival(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    let batch = vec![later("c", "k", now, seconds(30)), later("a", "k", now, seconds(10)), event("now", "k")];
    let outcomes = bus.publish(batch).await.unwrap();
    assert_eq!(outcomes[2].as_ref().unwrap().position, Some(1));
    assert!(outcomes[..2].iter().all(|outcome| outcome.as_ref().unwrap().due.is_some()));
    for id in ["d", "e"] {
        one(&bus, later(id, id, now, seconds(30))).await.unwrap();
    }
    one(&bus, later("b", "k", now, seconds(20))).await.unwrap();
    lab.advance(seconds(31)).await;
    eventually("all are recorded", async || log(&bus).await == ["now", "a", "b", "c", "d", "e"]).await;
}

pub(crate) async fn a_time_that_is_over_is_now(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    let past = Envelope { deliverytime: Some(now - seconds(5)), ..event("a", "k") };
    let recorded = one(&bus, past).await.unwrap();
    assert_eq!((recorded.position, recorded.due), (Some(1), None));
}

pub(crate) async fn what_waits_survives_a_kill(mut lab: impl Lab) {
    let now = lab.clock().now();
    for id in ["a", "b"] {
        one(&lab.bus(), later(id, id, now, seconds(60))).await.unwrap();
    }
    lab.kill_and_reopen().await;
    let again = one(&lab.bus(), later("a", "a", now, seconds(90))).await.unwrap();
    assert!(again.duplicate && again.position.is_none());
    assert_eq!(again.due.unwrap().unix_timestamp(), (now + seconds(60)).unix_timestamp(), "its first time holds");
    lab.advance(seconds(61)).await;
    let bus = lab.bus();
    eventually("both are recorded", async || log(&bus).await == ["a", "b"]).await;
    lab.kill_and_reopen().await;
    lab.advance(seconds(1)).await;
    assert_eq!(log(&lab.bus()).await, ["a", "b"], "once");
    let after = one(&lab.bus(), later("a", "a", now, seconds(900))).await.unwrap();
    assert_eq!((after.position, after.duplicate), (Some(1), true), "the window has it");
}

pub(crate) async fn a_cancelled_event_is_never_recorded(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    let source = event("a", "k").source;
    assert!(!bus.cancel(&queue(), &source, "a").await.unwrap(), "there is no such queue");
    for id in ["a", "b"] {
        one(&bus, later(id, "k", now, seconds(60))).await.unwrap();
    }
    let found = bus.find(&queue(), &source, "a").await.unwrap().unwrap();
    assert!(found.position.is_none() && found.due.is_some());
    assert!(!bus.cancel(&queue(), "/clients/eve", "a").await.unwrap(), "nobody else's");
    assert!(bus.cancel(&queue(), &source, "a").await.unwrap());
    assert!(!bus.cancel(&queue(), &source, "a").await.unwrap());
    assert_eq!(bus.find(&queue(), &source, "a").await.unwrap(), None);
    lab.advance(seconds(61)).await;
    eventually("the other is recorded", async || log(&bus).await == ["b"]).await;
    assert!(!bus.cancel(&queue(), &source, "b").await.unwrap(), "too late");
    let found = bus.find(&queue(), &source, "b").await.unwrap().unwrap();
    assert_eq!((found.position, found.due), (Some(1), None));
}

pub(crate) async fn what_waits_is_listed_in_its_order(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    bus.declare_queue(Queue { partitions: 2, ..Queue::new(queue()) }).await.unwrap();
    let batch = (0..20).map(|n| later(&format!("{n:02}"), &n.to_string(), now, seconds(60 + 10 * (n % 2)))).collect();
    bus.publish(batch).await.unwrap().into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    let all = bus.scheduled(&queue(), None, 1000).await.unwrap();
    assert_eq!(all.len(), 20);
    assert!(all.is_sorted_by_key(|scheduled| scheduled.turn), "by partition, time and arrival");
    assert!(all.iter().all(|scheduled| scheduled.due > now));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = bus.scheduled(&queue(), after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.turn);
        paged.extend(page);
    }
    assert_eq!(waiting(&paged), waiting(&all));
}

pub(crate) async fn times_that_make_no_sense_are_refused(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    let expired = Envelope { expirytime: Some(now + seconds(50)), ..later("a", "k", now, seconds(60)) };
    let versioned = Envelope { expectedversion: Some(0), ..later("a", "k", now, seconds(60)) };
    let far = later("a", "k", now, seconds(367 * 86_400));
    for (event, field) in [(expired, "expirytime"), (versioned, "expectedversion"), (far, "deliverytime")] {
        let refused = one(&bus, event).await;
        assert!(matches!(&refused, Err(Refused::Invalid(text)) if text.starts_with(field)), "{refused:?}");
    }
    assert!(bus.scheduled(&queue(), None, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_relays_events_wait_too(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    let numbered = async |id: &str, no: u64| {
        let producer = Some(Producer { outbox: "outbox".into(), first_publish_no: no });
        let options = PublishOptions { producer, ..PublishOptions::default() };
        bus.publish_with(vec![later(id, "k", now, seconds(60))], options).await.unwrap().remove(0)
    };
    assert!(numbered("a", 1).await.unwrap().due.is_some());
    let again = numbered("a", 1).await.unwrap();
    assert!(again.duplicate && again.due.is_some(), "{again:?}");
    assert_eq!(numbered("c", 3).await, Err(Refused::OutOfSequence { expected: 2 }));
    numbered("b", 2).await.unwrap();
    lab.advance(seconds(61)).await;
    eventually("both are recorded", async || log(&bus).await == ["a", "b"]).await;
    let again = numbered("b", 2).await.unwrap();
    assert_eq!((again.position, again.duplicate), (Some(2), true));
}

pub(crate) async fn what_is_due_counts_for_its_keys_version(lab: impl Lab) {
    let (bus, now) = (lab.bus(), lab.clock().now());
    bus.declare_queue(Queue { latest: true, ..Queue::new(queue()) }).await.unwrap();
    one(&bus, later("a", "k", now, seconds(60))).await.unwrap();
    assert!(bus.latest(&queue(), "k").await.unwrap().is_none());
    lab.advance(seconds(61)).await;
    eventually("it is recorded", async || log(&bus).await == ["a"]).await;
    assert_eq!(bus.latest(&queue(), "k").await.unwrap().unwrap().envelope.id, "a");
    let stale = Envelope { expectedversion: Some(0), ..event("b", "k") };
    assert_eq!(one(&bus, stale).await, Err(Refused::VersionConflict { current: 1 }));
}

/// Several thousand here, in pieces of 256; the figures of 100,000 are the benchmark's.
pub(crate) async fn many_that_are_due_at_once_do_not_starve_the_others(lab: impl Lab) {
    const MANY: usize = 3000;
    let (bus, now) = (lab.bus(), lab.clock().now());
    for first in (0..MANY).step_by(250) {
        let batch = (first..first + 250).map(|n| later(&format!("due-{n}"), "k", now, seconds(60))).collect();
        bus.publish(batch).await.unwrap().into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    }
    lab.let_pass(seconds(61));
    let live = publish(&bus, &[("live", "k")]).await[0].position.unwrap();
    assert!(live < MANY as u64, "it didn't wait for all of them: {live}");
    eventually("all are recorded", async || {
        lab.advance(seconds(1)).await;
        log(&bus).await.len() == MANY + 1
    })
    .await;
    let due: Vec<String> = log(&bus).await.into_iter().filter(|id| id != "live").collect();
    assert_eq!(due, (0..MANY).map(|n| format!("due-{n}")).collect::<Vec<_>>(), "in the order of their arrival");
}
