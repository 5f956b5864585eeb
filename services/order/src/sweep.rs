//! The sweep: nothing stays unfinished for good, whatever became of its command.
//!
//! What has been pending for too long and can still be rejected, is. Where the stock of a rejected order was not given
//! back yet, that is tried again. Any other order to which nothing has happened for a while is commanded anew. It may run in
//! several processes at once: each of its writes has an expected version.

use std::{future::ready, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use lifecycle::abort_point;
use time::OffsetDateTime;

use crate::{
    domain::Event,
    metrics,
    placement::Placement,
    store::{self, Store},
};

/// The most orders of a kind that one pass looks at; the next pass takes up the rest.
const BATCH: i64 = 256;
/// How many orders are worked on at once.
const CONCURRENCY: usize = 8;

pub struct Sweep {
    store: Store,
    placement: Arc<Placement>,
    limits: Limits,
}

/// What the sweep lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an order may be pending.
    pub pending: Duration,
    /// How long placement has to give back the stock of a rejected order itself.
    pub release: Duration,
    /// How long nothing may happen to an order before it is commanded anew, and between two such commands.
    pub stalled: Duration,
}

impl Sweep {
    pub fn new(store: Store, placement: Arc<Placement>, limits: Limits) -> Self {
        Self { store, placement, limits }
    }

    /// One pass.
    ///
    /// # Errors
    /// If the database fails. What a callee doesn't answer is logged, and left to the next pass.
    pub async fn run(&self) -> anyhow::Result<()> {
        let now = OffsetDateTime::now_utc();
        let overdue = self.store.overdue(now - self.limits.pending, BATCH).await?;
        self.each(overdue, |id| self.reject(id)).await;
        let unreleased = self.store.unreleased(now - self.limits.release, BATCH).await?;
        self.each(unreleased, |id| self.release(id)).await;
        for id in self.store.stalled(now - self.limits.stalled, BATCH).await? {
            if self.store.command_again(&id, now - self.limits.stalled).await? {
                metrics::swept("command");
                tracing::warn!(order.id = id, "an order made no progress: commanded anew");
            }
        }
        Ok(())
    }

    async fn reject(&self, id: String) -> anyhow::Result<()> {
        let Some(order) = self.store.load(&id).await?.filter(|order| order.stage.can_be_rejected()) else {
            return Ok(());
        };
        let reason = "it could not be processed in time".to_owned();
        let order = match self.store.append(&order, Event::OrderRejected { reason }, None).await {
            // Placement was faster; if it stops short of the point of no return, the next pass sees it.
            Err(store::Error::Conflict) => return Ok(()),
            appended => appended?,
        };
        abort_point("sweep.rejected");
        metrics::settled(&order);
        metrics::swept("reject");
        tracing::warn!(order.id = id, "an order was pending for too long: rejected");
        self.finish(&id).await
    }

    async fn release(&self, id: String) -> anyhow::Result<()> {
        self.finish(&id).await?;
        metrics::swept("release");
        Ok(())
    }

    async fn finish(&self, id: &str) -> anyhow::Result<()> {
        self.placement.finish(id, None).await.with_context(|| format!("order {id}"))
    }

    async fn each<F>(&self, ids: Vec<String>, work: impl Fn(String) -> F)
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let all = stream::iter(ids).map(work).buffer_unordered(CONCURRENCY);
        all.for_each(|worked| {
            if let Err(error) = worked {
                tracing::warn!(error = format!("{error:#}"), "left to the next sweep");
            }
            ready(())
        })
        .await;
    }
}
