//! Consuming several queues under one name.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, Consumers, Delivery, Failure, Group, Handler, Mode, Queue};
use events::{Envelope, Name, Pattern};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Lab, ack, claim_one, eventually};

/// Remembers what it was given: group, queue, id.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, String, String)>>);

#[async_trait]
impl Handler for Heard {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = &delivery.envelope;
        self.0.lock().push((delivery.group.to_string(), envelope.queue.to_string(), envelope.id.clone()));
        Ok(())
    }
}

impl Heard {
    fn has(&self, group: &str, queue: &str, id: &str) -> bool {
        self.0.lock().contains(&(group.to_owned(), queue.to_owned(), id.to_owned()))
    }
}

async fn publish(bus: &Bus, queue: &str, id: &str) {
    let name = |name: &str| Name::new(name).unwrap();
    let event = Envelope::new("/services/test", name(queue), name("CREATE")).id(id).subject(id);
    bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
}

fn consumers(bus: &Bus, patterns: &str, handler: &Arc<Heard>) -> Consumers {
    Consumers::new(bus.clone(), "all", Pattern::list(patterns).unwrap(), Mode::Keyed, handler.clone())
}

pub(crate) async fn queues_that_come_into_being_are_joined(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue::new(Name::new("SYS").unwrap())).await.unwrap();
    publish(&bus, "OLD", "1").await;
    let (heard, drain) = (Arc::new(Heard::default()), CancellationToken::new());
    let running = tokio::spawn(consumers(&bus, "*/*", &heard).run(drain.clone(), CancellationToken::new()));
    eventually("what is there is read", || async { heard.has("all.OLD", "OLD", "1") }).await;
    publish(&bus, "NEW", "2").await;
    eventually("what comes is joined", || async { heard.has("all.NEW", "NEW", "2") }).await;
    drain.cancel();
    running.await.unwrap().unwrap();
    let groups: Vec<String> = bus.groups().await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(groups, ["all.NEW", "all.OLD"], "none on what the bus itself writes");
    assert_eq!(heard.0.lock().len(), 2, "once each");
}

pub(crate) async fn a_group_keeps_its_queue_whatever_comes_first(lab: impl Lab) {
    let bus = lab.bus();
    // As another version left them.
    for (name, filter) in [("all", "DB/*"), ("all-ORDERS", "ORDERS/*")] {
        bus.declare_group(Group::new(name, filter.parse().unwrap(), Mode::Keyed)).await.unwrap();
        let queue = filter.strip_suffix("/*").unwrap();
        publish(&bus, queue, "seen").await;
        let leased = claim_one(&bus, name).await;
        ack(&bus, name, &[leased]).await;
    }
    let (heard, drain) = (Arc::new(Heard::default()), CancellationToken::new());
    let patterns = "ORDERS/*,DB/*,NOTES/*[subject^=n]";
    let running = tokio::spawn(consumers(&bus, patterns, &heard).run(drain.clone(), CancellationToken::new()));
    for (group, queue) in [("all", "DB"), ("all-ORDERS", "ORDERS"), ("all.NOTES", "NOTES")] {
        publish(&bus, queue, "old").await;
        publish(&bus, queue, "new").await;
        eventually("it goes on", || async { heard.has(group, queue, "new") }).await;
    }
    drain.cancel();
    running.await.unwrap().unwrap();
    assert!(heard.0.lock().iter().all(|(_, _, id)| id != "seen"), "they go on where they were");
    assert!(!heard.has("all.NOTES", "NOTES", "old"), "its pattern refuses it");
}
