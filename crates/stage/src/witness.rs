use std::sync::{Arc, Mutex};

use bus::{Delivery, Failure, Handler};
use events::Envelope;
use testkit::eventually;

use crate::BOUND;

/// What a consumer has seen so far.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Arc<Envelope>>>>);

impl Witness {
    pub fn all(&self) -> Vec<Arc<Envelope>> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until there are so many events, and gives all there are.
    pub async fn at_least(&self, count: usize) -> Vec<Arc<Envelope>> {
        let enough = |seen: Vec<_>| (seen.len() >= count).then_some(seen);
        eventually(&format!("{count} events"), BOUND, async || enough(self.all())).await
    }

    /// Waits until there are so many events of an entity.
    pub async fn of(&self, subject: &str, count: usize) -> Vec<Arc<Envelope>> {
        eventually(&format!("{count} events of {subject}"), BOUND, async || {
            let mut seen = self.all();
            seen.retain(|event| event.subject.as_deref() == Some(subject));
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    /// Waits for the event of an entity that is `wanted`.
    pub async fn find(&self, subject: &str, wanted: impl Fn(&Envelope) -> bool) -> Arc<Envelope> {
        let wanted = |event: &Arc<Envelope>| event.subject.as_deref() == Some(subject) && wanted(event);
        let found = async || self.all().into_iter().find(wanted);
        eventually(&format!("an event of {subject}"), BOUND, found).await
    }

    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Handler for Witness {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.0.lock().unwrap().push(Arc::clone(&delivery.envelope));
        Ok(())
    }
}
