use async_trait::async_trait;
use bus::{Delivery, Failure, Handler};

use crate::store::Store;

/// Records what is delivered.
pub(crate) struct Recorder {
    store: Store,
}

impl Recorder {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Handler for Recorder {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let recorded = self.store.record(&delivery.envelope).await?;
        tracing::trace!(event.id = %delivery.envelope.id, recorded, "event");
        Ok(())
    }
}
