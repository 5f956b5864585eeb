//! What cases do by hand.

use std::time::Duration;

use bus::{Leased, Verb};
use events::Envelope;
use tokio::time::Instant;

use crate::{
    history::{Settled, What},
    load::{Witness, audit},
};

/// How long something may take that should be soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

impl Witness {
    /// Publishes, and demands that all is recorded; the position of each.
    ///
    /// # Errors
    /// If the bus is away, or refuses one.
    pub(crate) async fn record(&self, publisher: &str, events: Vec<Envelope>) -> anyhow::Result<Vec<u64>> {
        let outcomes = self.publish(publisher, events, bus::PublishOptions::default()).await?;
        outcomes.into_iter().map(|outcome| Ok(outcome?.position.unwrap_or_default())).collect()
    }

    /// Claims until there is something.
    ///
    /// # Errors
    /// If there is nothing for long.
    pub(crate) async fn next(&self, group: &str, member: &str, max: usize) -> anyhow::Result<Vec<Leased>> {
        let end = Instant::now() + SOON;
        loop {
            let leased = self.claim(group, member, max).await?.leased;
            if !leased.is_empty() {
                return Ok(leased);
            }
            anyhow::ensure!(Instant::now() < end, "nothing came to {group}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Claims the one event that there must be.
    ///
    /// # Errors
    /// If there is none for long.
    pub(crate) async fn next_one(&self, group: &str, member: &str) -> anyhow::Result<Leased> {
        let mut leased = self.next(group, member, 1).await?;
        anyhow::ensure!(leased.len() == 1, "{} came at once", leased.len());
        Ok(leased.remove(0))
    }

    /// Settles, and demands that it could.
    ///
    /// # Errors
    /// If the lease is lost.
    pub(crate) async fn done(&self, group: &str, leased: &Leased, verb: Verb) -> anyhow::Result<()> {
        let settled = self.settle(group, leased.token, verb).await?;
        anyhow::ensure!(settled == Settled::Done, "the lease on {} is lost", leased.envelope.id);
        Ok(())
    }

    /// Acknowledges everything that comes, until there is nothing.
    ///
    /// # Errors
    /// If the bus is away, or something stays.
    pub(crate) async fn ack_all(&self, group: &str) -> anyhow::Result<()> {
        let end = Instant::now() + SOON;
        loop {
            for leased in self.claim(group, "last", 64).await?.leased {
                self.settle(group, leased.token, Verb::Ack).await?;
            }
            let status = self.bus.groups().await?.into_iter().find(|status| status.name == group);
            if status.is_none_or(|status| status.lag == 0) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "something stays with {group}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Demands where an event stands.
    ///
    /// # Errors
    /// If it stands elsewhere.
    pub(crate) async fn stands(&self, event: &Envelope, at: u64, group: &str, as_: &str) -> anyhow::Result<()> {
        let partition = self.bus.partition(&event.queue, event.key()).await?.index;
        let standing = self.bus.standing(&event.queue, partition, at).await?.remove(group);
        let name = standing.as_ref().map(bus::Standing::name);
        anyhow::ensure!(name == Some(as_), "{name:?} instead of {as_}");
        Ok(())
    }

    /// The end of a case.
    ///
    /// # Errors
    /// If the bus is away.
    pub(crate) async fn rest(&self) -> anyhow::Result<()> {
        self.history.write(What::Rest);
        audit(self).await
    }
}
