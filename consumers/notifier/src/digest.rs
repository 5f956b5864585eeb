//! What was held becomes a digest when its window has ended, and the digest is sent: as carefully as a single message, by a
//! schedule of its own, since no event brings it back.

use std::{convert::Infallible, sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    channel::Letter,
    ledger::{Due, Waiting},
    metrics,
    plan::{Covered, Plan},
    sender::Sender,
    template::shorten,
};

/// How often windows are looked at, and how often what waits is told.
const EVERY: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Pauses after each failed attempt; after the last it has failed. Seconds; the bus's own schedule.
const SCHEDULE: [u64; 8] = [1, 5, 30, 120, 600, 1800, 3600, 3 * 3600];

/// Titles that a digest repeats, and the most characters of one: five fit into a text message.
const TITLES: i64 = 5;
const TITLE: usize = 50;

pub(crate) struct Digester {
    plan: Arc<Plan>,
    sender: Sender,
}

impl Digester {
    pub fn new(plan: Arc<Plan>, sender: Sender) -> Self {
        Self { plan, sender }
    }

    /// Works until it is dropped; an attempt that has begun goes on.
    pub async fn run(self) -> Infallible {
        // Side by side: a slow channel holds up digests, and that must be told too.
        tokio::select! {
            never = self.send_digests() => never,
            never = self.report() => never,
        }
    }

    async fn send_digests(&self) -> Infallible {
        let mut due = every(EVERY);
        loop {
            due.tick().await;
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "digests wait: the ledger is away");
            }
        }
    }

    async fn report(&self) -> Infallible {
        let mut due = every(REPORT_EVERY);
        loop {
            due.tick().await;
            match self.sender.ledger.waiting().await {
                Ok(Waiting { held, oldest_unsent }) => {
                    let age =
                        oldest_unsent.map(|oldest| Duration::try_from(self.sender.now() - oldest).unwrap_or_default());
                    metrics::waiting(held.unsigned_abs(), age.unwrap_or_default());
                }
                Err(error) => tracing::debug!(%error, "what waits can't be told at the moment"),
            }
        }
    }

    async fn round(&self) -> Result<(), database::Error> {
        let now = self.sender.now();
        self.sender.ledger.close_windows(now).await?;
        let sends = self.sender.ledger.due(now).await?.into_iter().map(|due| self.send(due));
        for sent in futures_util::future::join_all(sends).await {
            sent?;
        }
        Ok(())
    }

    async fn send(&self, due: Due) -> Result<(), database::Error> {
        let ledger = &self.sender.ledger;
        let rule = self.plan.rule(&due.key.rule);
        let Some((rule, recipient)) =
            rule.and_then(|rule| Some((rule, rule.recipient(due.key.channel, &due.key.recipient)?)))
        else {
            return ledger.failed(due.seq, "the rule names the recipient no more", self.sender.now()).await;
        };
        let permit = self.sender.channels.permit(due.key.channel).await;
        let (Some(permit), Some(wait)) = (permit, self.pause(&due)) else {
            return ledger.failed(due.seq, "too many attempts have failed", self.sender.now()).await;
        };
        let titles = ledger.titles(due.seq, TITLES).await?;
        let titles = titles.iter().map(|title| shorten(title, TITLE)).collect();
        let letter = Letter {
            id: due.key.id(),
            rule: rule.name.clone(),
            recipient: recipient.clone(),
            message: rule.digest(recipient, &Covered { count: due.covers, titles }),
            about: json!({ "digest": due.key.event, "count": due.covers }),
        };
        if ledger.claim(&due, self.sender.now(), self.sender.until(&letter)).await? {
            // What became of it is in the ledger.
            let _ = self.sender.attempt(due.seq, letter, permit, wait).await;
        }
        Ok(())
    }

    /// How long to wait if the next attempt fails; None: there is no next attempt.
    fn pause(&self, due: &Due) -> Option<Duration> {
        let failed = usize::try_from(due.attempts).unwrap_or(usize::MAX);
        if failed > SCHEDULE.len() {
            return None;
        }
        Some(Duration::from_secs(SCHEDULE.get(failed).copied().unwrap_or_default()))
    }
}

fn every(period: Duration) -> Interval {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}
