//! What has to be looked after while nobody calls: schedules that fire, what is due, what must be put on the bus (again),
//! dead letters, and what is old. Every process that has jobs may do it, all at once: each step locks what it changes, and
//! finds nothing left where another was first.
//!
//! Why the database and not the bus's own delayed events: a scheduled job can be stopped and cancelled as a row, a retry
//! keeps its own policy and history, and all of it survives a bus that was flushed.

use std::time::Duration;

use bus::Which;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, Jobs, event, event::Run, metrics, store::DUE};

/// How late what is due may begin.
const LOOK: Duration = Duration::from_millis(500);
/// Looks between two of the rarer ones: at what the bus has lost (5 s), at its dead letters (10 s), at what is old and how
/// many there are (30 s).
const LOST: u64 = 10;
const DEAD: u64 = 20;
const OLD: u64 = 60;
/// Dead letters of a group in one look.
const LETTERS: usize = 100;

impl Jobs {
    /// Looks after jobs until `drain`. A [`crate::Worker`] does; without one, somebody who creates jobs or schedules must.
    pub async fn tend(&self, drain: CancellationToken) {
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in 0_u64.. {
            tokio::select! {
                () = drain.cancelled() => return,
                _ = timer.tick() => {}
            }
            // What is left half done is done by whoever looks next.
            let looked = tokio::select! {
                () = drain.cancelled() => return,
                looked = self.look(look) => looked,
            };
            match looked {
                // What more is due isn't kept waiting.
                Ok(true) => timer.reset_immediately(),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "jobs can't be looked after at the moment"),
            }
        }
    }

    /// Whether more may be due.
    async fn look(&self, look: u64) -> Result<bool, Error> {
        let fired = self.store().fire(self.now()).await?;
        metrics::fired(fired.len() as u64);
        let due = self.store().jobs_due(self.now()).await?;
        for job in &due {
            match self.store().due(*job, self.now()).await {
                Err(Error::NoJob(_)) => {}
                // One that can't be read keeps no other waiting.
                Err(error @ Error::Stored(_)) => tracing::error!(%job, %error, "what is due of a job can't begin"),
                done => done?,
            }
        }
        self.publish(None).await?;
        if look.is_multiple_of(LOST) {
            self.want_what_is_lost().await?;
        }
        if look.is_multiple_of(DEAD) {
            self.bury().await?;
        }
        if look.is_multiple_of(OLD) {
            metrics::republished(self.store().overdue(self.now()).await?);
            while self.store().trim(self.now() - self.keep()).await? > 0 {}
            while self.store().trim_inbox(self.now()).await? > 0 {}
            let oldest = self.store().oldest_pending().await?;
            let age = oldest.map_or(Duration::ZERO, |since| (self.now() - since).try_into().unwrap_or_default());
            metrics::standing(&self.counts().await?, age);
        }
        Ok(due.len() >= DUE)
    }

    /// Puts what is wanted on the bus: of one job, or of all.
    pub(crate) async fn publish(&self, job: Option<Uuid>) -> Result<(), Error> {
        let mut after = None;
        loop {
            // What is refused (a full queue) is tried again at the next look, and keeps nothing behind it waiting.
            let wanted = self.store().wanted(job, after).await?;
            let Some(last) = wanted.last() else { return Ok(()) };
            after = Some(last.run);
            let envelopes = wanted.iter().map(event::Wanted::envelope).collect();
            let outcomes =
                self.bus().publish(envelopes).await.map_err(|error| Error::Unavailable(error.to_string()))?;
            let mut published = Vec::with_capacity(wanted.len());
            for (wanted, outcome) in wanted.iter().zip(&outcomes) {
                match outcome {
                    Ok(recorded) => {
                        published.push((wanted.run, recorded.partition, recorded.lineage, recorded.position));
                    }
                    Err(refused) => tracing::warn!(job = %wanted.run.job, %refused, "the bus doesn't take a task yet"),
                }
            }
            lifecycle::abort_point("jobs.published");
            self.store().published(&published, self.now()).await?;
        }
    }

    /// The same at once, where it can be; else at the next look.
    pub(crate) async fn publish_soon(&self, job: Option<Uuid>) {
        if let Err(error) = self.publish(job).await {
            tracing::debug!(%error, "published at the next look");
        }
    }

    /// Wants again what lies beyond the cut of a lineage.
    async fn want_what_is_lost(&self) -> Result<(), Error> {
        for place in self.store().log_places().await? {
            let lineages = self.bus().lineages(&event::queue(place.priority), place.partition).await;
            let lineages = lineages.map_err(|error| Error::Unavailable(error.to_string()))?;
            let Some(cut) = lineages.cut(place.lineage) else { continue };
            loop {
                match self.store().lost(place, cut, self.now()).await? {
                    0 => break,
                    lost => metrics::republished(lost),
                }
            }
        }
        Ok(())
    }

    /// What the bus has given up on has failed: its workers died of it.
    async fn bury(&self) -> Result<(), Error> {
        let away = |error: bus::Error| Error::Unavailable(error.to_string());
        let groups = self.bus().groups().await.map_err(away)?;
        for group in groups.iter().filter(|group| group.dead > 0 && group.name.starts_with("jobs.")) {
            let (mut after, mut ours) = ((0, 0), Vec::new());
            loop {
                let letters = self.bus().dead_letters(&group.name, after, LETTERS).await.map_err(away)?;
                for letter in &letters {
                    after = (letter.partition, letter.position);
                    // What is no task is the operator's to look at.
                    let Some(run) = Run::of(&letter.envelope) else { continue };
                    let error = format!("{}: {}", letter.reason, letter.error);
                    if self.store().poison(run, &error, self.now()).await? {
                        metrics::attempted(&letter.envelope.event.as_str().to_ascii_lowercase(), "poisoned");
                    }
                    ours.push(after);
                }
                if letters.len() < LETTERS || ours.len() >= LETTERS {
                    break;
                }
            }
            // Their history is the job's now.
            self.bus().discard(&group.name, Which::These(ours)).await.map_err(away)?;
        }
        Ok(())
    }
}
