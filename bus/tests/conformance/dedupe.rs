//! C3: an id is recorded once.

use std::time::Duration;

use bus::{Producer, PublishOptions, Queue};

use super::{Lab, event, publish, queue, seconds};

pub(crate) async fn a_repeated_id_answers_the_original_position(lab: impl Lab) {
    let bus = lab.bus();
    let original = publish(&bus, &[("a", "k"), ("b", "k")]).await[0];
    let again = publish(&bus, &[("a", "k")]).await[0];
    assert_eq!((again.position, again.duplicate), (original.position, true));
    assert_eq!(again.lineage, original.lineage);
    let within = publish(&bus, &[("c", "k"), ("c", "k")]).await;
    assert_eq!((within[1].position, within[1].duplicate), (within[0].position, true));
    let mut other = event("a", "k");
    other.source = "/clients/alice".into();
    let other = bus.publish(vec![other]).await.unwrap().remove(0).unwrap();
    assert!(!other.duplicate, "another source's ids are its own");
}

pub(crate) async fn racing_publishers_record_an_id_once(lab: impl Lab) {
    let bus = lab.bus();
    let racers: Vec<_> = (0..20)
        .map(|_| {
            let bus = bus.clone();
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

pub(crate) async fn the_window_ends_after_two_hours(lab: impl Lab) {
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    lab.advance(seconds(7199)).await;
    assert!(publish(&bus, &[("a", "k")]).await[0].duplicate);
    lab.advance(Duration::from_secs(2)).await;
    let late = publish(&bus, &[("a", "k")]).await[0];
    assert_eq!((late.position, late.duplicate), (Some(2), false));
}

pub(crate) async fn the_window_survives_a_kill(mut lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k"), ("b", "k")]).await;
    lab.kill_and_reopen().await;
    let again = publish(&lab.bus(), &[("b", "k")]).await[0];
    assert_eq!((again.position, again.duplicate), (Some(2), true));
}

pub(crate) async fn the_window_begins_anew_with_what_is_recorded_again(lab: impl Lab) {
    let bus = lab.bus();
    // A relay whose numbers began anew doesn't look at ids.
    for outbox in ["product", "product, anew"] {
        let producer = Some(Producer { outbox: outbox.into(), first_publish_no: 1 });
        let options = PublishOptions { producer, ..PublishOptions::default() };
        let outcome = bus.publish_with(vec![event("a", "k")], options).await.unwrap().remove(0);
        assert!(!outcome.unwrap().duplicate);
        lab.advance(seconds(3600)).await;
    }
    lab.advance(seconds(60)).await;
    let again = publish(&bus, &[("a", "k")]).await[0];
    assert_eq!((again.position, again.duplicate), (Some(2), true), "recorded 61 minutes ago");
}

pub(crate) async fn a_window_is_as_long_as_its_queue_says(mut lab: impl Lab) {
    let window = |dedupe| Queue { dedupe, ..Queue::new(queue()) };
    lab.bus().declare_queue(window(seconds(600))).await.unwrap();
    publish(&lab.bus(), &[("a", "k")]).await;
    lab.advance(seconds(599)).await;
    lab.kill_and_reopen().await;
    assert!(publish(&lab.bus(), &[("a", "k")]).await[0].duplicate);
    lab.advance(seconds(2)).await;
    assert!(!publish(&lab.bus(), &[("a", "k")]).await[0].duplicate);
    lab.bus().declare_queue(window(seconds(86_400))).await.unwrap();
    publish(&lab.bus(), &[("b", "k")]).await;
    lab.advance(seconds(86_000)).await;
    lab.kill_and_reopen().await;
    assert!(publish(&lab.bus(), &[("b", "k")]).await[0].duplicate, "longer than the default");
}

pub(crate) async fn a_queue_may_have_no_window(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { dedupe: Duration::ZERO, ..Queue::new(queue()) }).await.unwrap();
    let recorded = publish(&bus, &[("a", "k"), ("a", "k")]).await;
    assert!(recorded.iter().all(|recorded| !recorded.duplicate));
    assert_eq!(publish(&bus, &[("a", "k")]).await[0].position, Some(3));
}

pub(crate) async fn an_event_is_found_by_its_id_within_the_window(mut lab: impl Lab) {
    let bus = lab.bus();
    let source = event("a", "k").source;
    assert_eq!(bus.find(&queue(), &source, "a").await.unwrap(), None, "there is no such queue");
    bus.declare_queue(Queue { partitions: 4, ..Queue::new(queue()) }).await.unwrap();
    let recorded = publish(&bus, &[("a", "x"), ("b", "y"), ("c", "z")]).await;
    drop(bus);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    for (id, recorded) in ["a", "b", "c"].into_iter().zip(&recorded) {
        let found = bus.find(&queue(), &source, id).await.unwrap().unwrap();
        let place = (found.partition, found.position);
        assert_eq!(place, (recorded.partition, recorded.position), "{id}, in whichever partition");
        assert!(bus.lineages(&queue(), found.partition).await.unwrap().holds(found.lineage, found.position.unwrap()));
    }
    assert_eq!(bus.find(&queue(), &source, "d").await.unwrap(), None);
    assert_eq!(bus.find(&queue(), "/clients/eve", "a").await.unwrap(), None, "another source's ids are its own");
    lab.advance(seconds(7201)).await;
    assert_eq!(bus.find(&queue(), &source, "a").await.unwrap(), None, "nobody knows any more");
}
