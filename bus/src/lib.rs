//! The event bus: one partitioned log a queue; groups lease, settle and retry its events; tail readers follow it.

mod backend;
mod consumer;
mod error;
mod inbox;
mod model;
mod publish;
pub mod sqlite;

pub use backend::Backend;
pub use consumer::{Consumer, Failure, Handler};
pub use error::{Error, LeaseLost, Refused};
pub use inbox::Inbox;
pub use model::*;
pub use publish::{Confirm, Lineage, Lineages, Outcome, Partition, Producer, PublishOptions, Queue, Recorded};

use std::sync::Arc;

use events::{Envelope, Name};

/// A handle on a bus, whatever its backend. Clones share it.
#[derive(Clone)]
pub struct Bus(Arc<dyn Backend>);

impl Bus {
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }

    /// Records events, `stored`. Events of one queue and partition are recorded all or none, in their order; the answer
    /// has one outcome an event. At most 256 events and 1 MiB.
    pub async fn publish(&self, events: Vec<Envelope>) -> Result<Vec<Outcome>, Error> {
        self.publish_with(events, PublishOptions::default()).await
    }

    /// [`Bus::publish`] with a level of confirmation, a producer's numbers, an expected lineage.
    pub async fn publish_with(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        self.0.publish(events, options).await
    }

    /// Where a key's events go. A queue that isn't there yet counts as one of the default settings.
    pub async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error> {
        self.0.partition(queue, key).await
    }

    /// The lineages of a partition; none while the queue isn't there.
    pub async fn lineages(&self, queue: &Name, partition: u32) -> Result<Lineages, Error> {
        self.0.lineages(queue, partition).await
    }

    /// The current lineage of a partition; none while the queue isn't there.
    pub async fn lineage(&self, queue: &Name, partition: u32) -> Result<Option<Lineage>, Error> {
        Ok(self.lineages(queue, partition).await?.current())
    }
}
