//! What was held becomes a digest when its window has ended, and the digest is sent: as carefully as a single message, by a
//! schedule of its own, since no event brings it back.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    channel::Letter,
    ledger::Due,
    metrics,
    plan::{Covered, Plan},
    sender::Sender,
    template::shorten,
};

/// How often windows are looked at.
const EVERY: Duration = Duration::from_secs(1);

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
    pub async fn run(self) -> std::convert::Infallible {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "digests wait: the ledger is away");
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
        let waiting = self.sender.ledger.waiting().await?;
        let oldest = waiting.oldest_unsent.map(|oldest| Duration::try_from(now - oldest).unwrap_or_default());
        metrics::waiting(waiting.held.unsigned_abs(), oldest.unwrap_or_default());
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
