use async_trait::async_trait;
use events::{Envelope, Name};

use crate::{Error, Lineages, Outcome, Partition, PublishOptions};

#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn publish(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error>;
    async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error>;
    async fn lineages(&self, queue: &Name, partition: u32) -> Result<Lineages, Error>;
}
