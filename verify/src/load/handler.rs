//! A handler as a service writes it, run by [`bus::Consumer`]: an effect, kept once by an inbox.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Delivery, Failure, Handler};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};

use super::witness::seen;
use crate::history::{Did, History, What};

/// What handlers of a group did, for good: their database.
#[derive(Clone, Default)]
pub struct Effects(Arc<Mutex<HashSet<String>>>);

impl Effects {
    /// Whether it is new.
    fn keep(&self, id: &str) -> bool {
        self.0.lock().insert(id.to_owned())
    }
}

pub struct Handling {
    pub history: History,
    pub group: String,
    pub member: String,
    pub effects: Effects,
    /// How long it takes.
    pub slow: Duration,
    /// Of a hundred; each is tried again soon.
    pub fails: u32,
    pub panics: u32,
    pub rng: Mutex<StdRng>,
}

impl Handling {
    fn did(&self, delivery: &Delivery, did: Did) {
        self.history.write(What::Handled {
            group: self.group.clone(),
            member: self.member.clone(),
            event: seen(&delivery.envelope, delivery.partition, delivery.position),
            attempt: delivery.attempt,
            did,
        });
    }
}

#[async_trait]
impl Handler for Handling {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.did(delivery, Did::Started);
        if !self.slow.is_zero() {
            tokio::time::sleep(self.slow).await;
        }
        let chance = self.rng.lock().random_range(0..100);
        if chance < self.fails + self.panics && delivery.attempt < 3 {
            self.did(delivery, Did::Failed);
            assert!(chance >= self.panics, "a handler's bad day");
            let delay = Some(Duration::from_millis(u64::from(chance)));
            return Err(Failure::Retry { reason: "a bad day".into(), delay });
        }
        let new = self.effects.keep(&delivery.envelope.id);
        self.did(delivery, if new { Did::Done } else { Did::Repeated });
        Ok(())
    }
}
