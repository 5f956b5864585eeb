//! The loop that publishes what was appended. It takes no input but the database, so it may always run again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bus::{Bus, Refused};
use database::Database;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    lease::{self, Lease},
    metrics::Metrics,
    row::Stream,
    store::{Store, TRIM_STEP, Written},
};

/// What is committed is looked for this often, should the commit's signal be missed.
const TICK: Duration = Duration::from_millis(250);
/// The bus is asked this often whether it still holds what it recorded.
const VERIFY_EVERY: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// The patience of a drain.
const FINISH: Duration = Duration::from_secs(2);
/// The wait after a failure; it doubles up to the longest.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Publishes what was appended. One relay works a database at a time, however many run.
pub struct Relay {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    pub(crate) metrics: Metrics,
    /// This relay, among those of the database.
    owner: String,
    pub(crate) lease: Option<Lease>,
    /// The lineage under which the bus was seen to hold everything that was sent to a partition; None: it holds nothing.
    pub(crate) verified: BTreeMap<Stream, Option<u64>>,
    /// Partitions in which the bus's numbers were seen to be this database's.
    pub(crate) counted: BTreeSet<Stream>,
    verify_at: Instant,
    trim_at: Instant,
}

/// What a step found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more at once.
    Worked,
    Idle,
}

/// Why a step got stuck; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error(transparent)]
    Bus(#[from] bus::Error),
    #[error("the bus refuses {id}: {reason}")]
    Refused { id: String, reason: Refused },
    #[error("the bus counts otherwise ({0}): the numbers begin anew")]
    Apart(String),
}

impl Relay {
    pub fn new(database: Database, bus: Bus, source: &str) -> Self {
        Self {
            store: Store { database },
            bus,
            now: Arc::new(OffsetDateTime::now_utc),
            metrics: Metrics::new(source),
            owner: Uuid::new_v4().to_string(),
            lease: None,
            verified: BTreeMap::new(),
            counted: BTreeSet::new(),
            verify_at: Instant::now(),
            trim_at: Instant::now(),
        }
    }

    /// Tells the time of leases and of trimming by another clock than the system's.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Works until `drain`, then publishes what is still there and gives the lease up. A database or bus that is
    /// away is waited for.
    ///
    /// # Errors
    /// None at present.
    pub async fn run(mut self, drain: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = SHORTEST_BACKOFF;
        while !drain.is_cancelled() {
            match self.step().await {
                Ok(step) => {
                    backoff = SHORTEST_BACKOFF;
                    if step == Step::Idle {
                        tokio::select! {
                            () = self.store.database.appended() => {}
                            () = pause(TICK, &drain) => {}
                        }
                    }
                }
                Err(trouble) => {
                    tracing::warn!(error = %trouble, "the outbox is not relayed at the moment");
                    pause(backoff.mul_f64(rand::random_range(0.8..1.2)), &drain).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
        if tokio::time::timeout(FINISH, self.finish()).await.is_err() {
            tracing::warn!("what is left in the outbox is published at the next start");
        }
        Ok(())
    }

    async fn finish(&mut self) {
        // A step may publish a single event, where it proves that the bus takes new numbers.
        let finished = loop {
            match self.step().await {
                Ok(Step::Idle) => break Ok(()),
                Ok(_) => {}
                Err(trouble) => break Err(trouble),
            }
        };
        if let Err(trouble) = finished {
            tracing::warn!(error = %trouble, "what is left in the outbox is published at the next start");
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release(&self.store.database).await
        {
            tracing::debug!(%error, "the relay's lease runs out by itself");
        }
    }

    /// One round: look, take the lease, send again what was lost, stamp, publish.
    async fn step(&mut self) -> Result<Step, Trouble> {
        let oldest = self.store.oldest_unsent().await?;
        let age = oldest.map_or(time::Duration::ZERO, |appended| (self.now)() - appended);
        self.metrics.oldest(age);
        let changed = self.changed().await?;
        self.trim().await?;
        if oldest.is_none() && changed.is_empty() {
            return Ok(Step::Idle);
        }
        // One that is held is proved, and so prolonged, by each write.
        if self.lease.is_none() {
            self.lease = lease::acquire(&self.store.database, &self.owner, (self.now)()).await?;
        }
        for stream in changed {
            self.verify(&stream).await?;
        }
        self.stamp().await?;
        self.publish().await
    }

    /// Partitions whose lineage is not the one they were verified under, or to which something was sent under one that had
    /// been cut before by then: a journal elsewhere may commit what it knew of the bus before a loss, after this relay has
    /// seen to that loss.
    async fn changed(&mut self) -> Result<Vec<Stream>, Trouble> {
        if Instant::now() < self.verify_at {
            return Ok(Vec::new());
        }
        let mut changed = Vec::new();
        for (stream, sent) in self.store.known().await? {
            let lineages = self.bus.lineages(&stream.queue, stream.partition).await?;
            let current = lineages.current().map(|lineage| lineage.id);
            if self.verified.get(&stream) != Some(&current)
                || sent.iter().any(|(lineage, last)| !lineages.holds(*lineage, *last))
            {
                changed.push(stream);
            }
        }
        self.verify_at = Instant::now() + VERIFY_EVERY;
        Ok(changed)
    }

    async fn trim(&mut self) -> Result<(), Trouble> {
        if Instant::now() >= self.trim_at {
            let whole_step = self.store.trim((self.now)()).await? >= TRIM_STEP;
            self.trim_at = Instant::now() + if whole_step { TICK } else { TRIM_EVERY };
        }
        Ok(())
    }

    /// Sees to it that rows which the bus has lost are sent again.
    pub(crate) async fn verify(&mut self, stream: &Stream) -> Result<(), Trouble> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let lineages = self.bus.lineages(&stream.queue, stream.partition).await?;
        let reopened = self.store.reopen(lease, (self.now)(), stream, &lineages).await?;
        let Some(rows) = self.written(reopened) else { return Ok(()) };
        if rows > 0 {
            self.metrics.resent(rows);
            tracing::warn!(bus.queue = %stream.queue, rows, "the bus has lost events; they are sent again");
            // The numbers may have begun anew, under another name.
            self.lease = lease::acquire(&self.store.database, &self.owner, (self.now)()).await?;
        }
        self.verified.insert(stream.clone(), lineages.current().map(|lineage| lineage.id));
        Ok(())
    }

    /// Gives rows their numbers.
    async fn stamp(&mut self) -> Result<(), Trouble> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let rows = self.store.unstamped().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut placed = Vec::with_capacity(rows.len());
        for row in rows {
            let partition = self.bus.partition(&row.queue, &row.key).await?.index;
            placed.push((row.seq, Stream { queue: row.queue, partition }));
        }
        let stamped = self.store.stamp(lease, (self.now)(), &placed).await?;
        self.written(stamped);
        lifecycle::abort_point("outbox.stamped");
        Ok(())
    }

    /// What was written; None, and no lease any more, if that was lost.
    pub(crate) fn written<T>(&mut self, written: Written<T>) -> Option<T> {
        match written {
            Written::Done(value) => Some(value),
            Written::LeaseLost => {
                tracing::debug!("another relay has taken the lease over");
                self.lease = None;
                None
            }
        }
    }
}

async fn pause(wait: Duration, drain: &CancellationToken) {
    tokio::select! {
        () = drain.cancelled() => {}
        () = sleep(wait) => {}
    }
}
