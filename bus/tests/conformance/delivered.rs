//! C11: whoever publishes may wait until what was published is delivered.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Error, Failure, Group, Handler, Mode, Place, Progress, Standing, Verb};
use events::Envelope;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Lab, ack, claim_one, declare, event, eventually, publish, queue, refuse, seconds, settle};

async fn published(bus: &Bus, id: &str) -> Place {
    Place::of(&queue(), &publish(bus, &[(id, "k")]).await[0]).unwrap()
}

pub(crate) async fn a_consumer_may_be_faster_than_the_waiter(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let place = published(&bus, "a").await;
    let leased = claim_one(&bus, "g").await;
    ack(&bus, "g", &[leased]).await;
    let delivered = bus.wait_delivered(&place, &[], seconds(0)).await.unwrap();
    assert_eq!((delivered.progress, &delivered.groups["g"]), (Progress::Delivered, &Some(Standing::Acked)));
}

pub(crate) async fn a_wait_ends_at_its_time(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let place = published(&bus, "a").await;
    let delivered = bus.wait_delivered(&place, &[], seconds(0)).await.unwrap();
    assert_eq!((delivered.progress, delivered.reason()), (Progress::Pending, "timeout"));
}

pub(crate) async fn with_nobody_there_it_waits_for_somebody(lab: impl Lab) {
    let bus = lab.bus();
    let place = published(&bus, "a").await;
    let waiting = {
        let (bus, place) = (bus.clone(), place.clone());
        tokio::spawn(async move { bus.wait_delivered(&place, &[], seconds(60)).await })
    };
    let nobody = bus.delivered(&place, &[]).await.unwrap();
    assert_eq!((nobody.progress, nobody.open), (Progress::Nobody, false));
    declare(&bus, "late", Mode::Parallel).await;
    let leased = claim_one(&bus, "late").await;
    ack(&bus, "late", &[leased]).await;
    assert_eq!(waiting.await.unwrap().unwrap().progress, Progress::Delivered);
}

pub(crate) async fn a_dead_letter_ends_the_wait(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["refuses", "stuck"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let place = published(&bus, "a").await;
    let leased = claim_one(&bus, "refuses").await;
    let waiting = bus.wait_delivered(&place, &[], seconds(60));
    let (delivered, settled) = tokio::join!(waiting, settle(&bus, "refuses", leased.token, refuse()));
    settled.unwrap();
    let delivered = delivered.unwrap();
    assert_eq!((delivered.progress, delivered.reason()), (Progress::Failed, "dead_letter"));
    assert_eq!(delivered.groups["refuses"].as_ref().map(Standing::name), Some("dead"));
    assert!(delivered.open, "the other one is still at it");
}

pub(crate) async fn a_named_group_is_waited_for_alone(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["fast", "stuck"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let place = published(&bus, "a").await;
    let leased = claim_one(&bus, "fast").await;
    settle(&bus, "fast", leased.token, Verb::Ack).await.unwrap();
    let named = ["fast".to_owned()];
    let delivered = bus.wait_delivered(&place, &named, seconds(60)).await.unwrap();
    assert_eq!((delivered.progress, delivered.groups.len()), (Progress::Delivered, 1));
    assert_eq!(bus.delivered(&place, &[]).await.unwrap().progress, Progress::Pending);
}

/// Publishes into its own queue and would wait for it, once.
struct Selfish {
    bus: Bus,
    answers: Mutex<Vec<String>>,
}

impl Selfish {
    async fn wait(&self, named: &[String]) -> Result<(), Error> {
        let own: Envelope = event("follow-up", "k");
        self.bus.check_wait(&own, named, None).await
    }
}

#[async_trait]
impl Handler for Selfish {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let all = self.wait(&[]).await;
        let named = self.wait(&["other".to_owned(), "selfish".to_owned()]).await;
        let other = self.wait(&["other".to_owned()]).await;
        let lineage = self.bus.lineage(&queue(), 0).await?.unwrap().id;
        let place = Place { queue: queue(), partition: 0, lineage, position: delivery.position };
        let itself = self.bus.wait_delivered(&place, &[], seconds(60)).await.map(|_| ());
        let told = |answer: Result<(), Error>| answer.map_or_else(|error| error.to_string(), |()| "may".to_owned());
        self.answers.lock().extend([all, named, other, itself].map(told));
        Ok(())
    }
}

fn run(bus: &Bus, handler: Arc<dyn Handler>) -> DropGuard {
    let group = Group::new("selfish", "DB/*".parse().unwrap(), Mode::Parallel);
    let stop = CancellationToken::new();
    tokio::spawn(Consumer::new(bus.clone(), group, handler).run(stop.clone(), stop.clone()));
    stop.drop_guard()
}

pub(crate) async fn a_handler_can_not_wait_for_its_own_group(lab: impl Lab) {
    let bus = lab.bus();
    let selfish = Arc::new(Selfish { bus: bus.clone(), answers: Mutex::default() });
    let _running = run(&bus, selfish.clone());
    publish(&bus, &[("a", "k")]).await;
    eventually("it was handled", async || !selfish.answers.lock().is_empty()).await;
    let answers = selfish.answers.lock().clone();
    for refused in [0, 1, 3] {
        assert!(answers[refused].contains("can't wait for selfish itself"), "{answers:?}");
    }
    assert_eq!(answers[2], "may");
    // Who is in no handler may.
    bus.check_wait(&event("b", "k"), &[], None).await.unwrap();
    assert!(matches!(bus.check_wait(&event("b", "k"), &[], Some("selfish")).await, Err(Error::Conflict(_))));
}

/// Publishes twice what follows from a delivery, as a handler that is run again does.
struct Repeats(Bus);

#[async_trait]
impl Handler for Repeats {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        for step in ["mail", "mail", "sms"] {
            let event = delivery.follow_up(step, "/consumers/notifier", "MAIL/SEND".parse()?);
            self.0.publish(vec![event]).await?.remove(0)?;
        }
        Ok(())
    }
}

pub(crate) async fn a_step_of_a_handler_is_recorded_once(lab: impl Lab) {
    let bus = lab.bus();
    let _running = run(&bus, Arc::new(Repeats(bus.clone())));
    let place = published(&bus, "a").await;
    let delivered = bus.wait_delivered(&place, &[], seconds(20)).await.unwrap();
    assert_eq!(delivered.progress, Progress::Delivered);
    let page = bus.read(&events::Name::new("MAIL").unwrap(), 0, 1, 10).await.unwrap();
    assert_eq!(page.events.len(), 2, "a step each");
    assert!(page.events.iter().all(|logged| logged.envelope.causationid.as_deref() == Some("a")));
}
