//! A publisher: what it doesn't know to be recorded, it publishes again, under the same id.

use std::time::Duration;

use bus::{Error, Outcome, PublishOptions};
use events::{Envelope, Name};
use rand::{Rng as _, rngs::StdRng};
use tokio::time::Instant;

use super::Witness;

/// How long one publish is tried; whoever is still away then stays away.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// What is published: events of a queue, with ids that are there once in a history.
#[derive(Clone, Debug)]
pub struct Wares {
    pub queue: Name,
    /// Event names, one after the other.
    pub events: Vec<Name>,
    /// So many keys, in turn by chance.
    pub keys: u64,
    /// What the names of publishers begin with, and so the ids.
    pub publisher: String,
}

impl Wares {
    /// # Errors
    /// If the queue's name is none.
    pub fn new(queue: &str, keys: u64) -> anyhow::Result<Self> {
        let events = vec![Name::new("CREATE")?, Name::new("UPDATE")?];
        Ok(Self { queue: Name::new(queue)?, events, keys, publisher: "p".to_owned() })
    }

    pub fn event(&self, id: &str, key: &str, number: usize) -> Envelope {
        let name = self.events[number % self.events.len()].clone();
        Envelope::new("/verify", self.queue.clone(), name).id(id).subject(key)
    }
}

pub struct Publisher {
    pub witness: Witness,
    pub name: String,
    pub wares: Wares,
    pub rng: StdRng,
    pub options: PublishOptions,
}

impl Publisher {
    /// Publishes so many events, at most `batch` at once, one call after the other.
    ///
    /// # Errors
    /// If the bus stays away, or refuses one.
    pub async fn run(mut self, events: usize, batch: usize, pause: Duration) -> anyhow::Result<()> {
        let mut number = 0;
        while number < events {
            let size = self.rng.random_range(1..=batch.max(1)).min(events - number);
            let batch = (number..number + size)
                .map(|number| {
                    let key = format!("k{}", self.rng.random_range(0..self.wares.keys.max(1)));
                    self.wares.event(&format!("{}-{number}", self.name), &key, number)
                })
                .collect();
            self.insist(batch).await?;
            number += size;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Publishes until it is known to be recorded.
    ///
    /// # Errors
    /// If the bus stays away, or refuses one.
    pub async fn insist(&self, events: Vec<Envelope>) -> anyhow::Result<Vec<Outcome>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.witness.publish(&self.name, events.clone(), self.options.clone()).await {
                Ok(outcomes) => {
                    if let Some(refused) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
                        anyhow::bail!("{} was refused: {refused}", self.name);
                    }
                    return Ok(outcomes);
                }
                Err(Error::Unavailable(_)) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
