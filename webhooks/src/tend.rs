//! What has to be looked after while nobody calls: alerts that were not told yet, groups of endpoints that are gone or take
//! something else, and what is old. Every process may do it, all at once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use events::{Name, Pattern};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, State,
    endpoint::{group, patterns},
    handle::Inner,
    metrics,
    place::is_of,
    store::MOST_ATTEMPTS,
};

const LOOK: Duration = Duration::from_secs(1);
/// Looks between two of the rarer ones: at groups (5 s), at what is old (30 s), at what is too much (5 min).
const GROUPS: u64 = 5;
const OLD: u64 = 30;
const MUCH: u64 = 300;
/// How long attempts are kept.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// How long what was removed or changed is looked after: a process that hasn't noticed may declare its groups anew.
const AFTERWARDS: Duration = Duration::from_secs(3600);
/// How long registering one may take.
const BEGINNING: Duration = Duration::from_secs(60);
/// How long an acknowledgement is kept that nobody came for: longer than an event waits for its next attempt.
const UNCLAIMED: Duration = Duration::from_secs(2 * 86_400);

pub(crate) async fn tend(inner: Arc<Inner>, drain: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 0_u64.. {
        tokio::select! {
            () = drain.cancelled() => return,
            _ = timer.tick() => {}
        }
        if let Err(error) = inner.look(look).await {
            tracing::warn!(%error, "webhooks can't be looked after at the moment");
        }
    }
}

impl Inner {
    async fn look(&self, look: u64) -> Result<(), Error> {
        self.alert().await?;
        if look.is_multiple_of(GROUPS) {
            self.sweep().await?;
        }
        if look.is_multiple_of(OLD) {
            let now = self.now();
            while self.store.trim_attempts(now - KEEP).await? > 0 {}
            self.store.trim_waits(now - UNCLAIMED).await?;
            self.store.forget(now - AFTERWARDS, now - BEGINNING).await?;
            let (enabled, disabled) = self.store.counts().await?;
            metrics::endpoints(enabled, disabled);
        }
        if look.is_multiple_of(MUCH) {
            while self.store.trim_too_many(MOST_ATTEMPTS).await? > 0 {}
        }
        Ok(())
    }

    /// Tells of those that were disabled by what they answered. Told twice, it is told once: the id is the same.
    pub(crate) async fn alert(&self) -> Result<(), Error> {
        for endpoint in self.store.alerts().await? {
            let State::Disabled(disabled) = &endpoint.state else { continue };
            let event = Name::new("WEBHOOK_DISABLED").map_err(|error| Error::Stored(error.to_string()))?;
            let id = format!("{}-{}", endpoint.id, disabled.at.unix_timestamp());
            let data = json!({
                "webhook": endpoint.id,
                "host": endpoint.host(),
                "owner": endpoint.owner,
                "description": endpoint.description,
                "reason": disabled.reason.as_str(),
                "failures": endpoint.failures,
                "failing_since": endpoint.failing_since.and_then(rfc3339),
            });
            self.bus.tell(&event, &id, disabled.at, data).await?;
            self.store.told(&endpoint.id, disabled.at).await?;
        }
        Ok(())
    }

    /// Deletes the groups of endpoints that are gone, and those on queues that an endpoint takes nothing of any more. An endpoint
    /// is kept from changing meanwhile: what is declared for it next mustn't be taken for what it was.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        let touched = self.store.touched(self.now() - AFTERWARDS).await?;
        if touched.is_empty() {
            return Ok(());
        }
        let groups = self.bus.groups().await?;
        for one in touched {
            let of = group(&one.id);
            let wanted: Vec<Pattern> = if one.removed { Vec::new() } else { patterns(&one.filter)? };
            let takes = |queue: &Name| {
                wanted.iter().any(|pattern| pattern.is_on(queue))
                    || (!one.removed && one.receipts && queue.as_str() == "RECEIPT")
            };
            let unwanted: BTreeSet<&str> = groups
                .iter()
                .filter(|status| is_of(&status.name, &of) && !takes(&status.filter.queue))
                .map(|status| status.name.as_str())
                .collect();
            if unwanted.is_empty() {
                continue;
            }
            let Some(tx) = self.store.hold(&one).await? else { continue };
            for name in unwanted {
                self.bus.delete_group(name).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}

fn rfc3339(time: time::OffsetDateTime) -> Option<String> {
    time.format(&time::format_description::well_known::Rfc3339).ok()
}
