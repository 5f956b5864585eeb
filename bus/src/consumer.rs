use crate::{Bus, Delivery, Group};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What becomes of a delivery whose handler failed.
#[derive(Debug)]
pub enum Failure {
    /// Again later: after `delay`, else by the schedule.
    Retry { reason: String, delay: Option<Duration> },
    /// Never again: a dead letter.
    Dead { reason: String },
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Retry { reason: format!("{:#}", error.into()), delay: None }
    }
}

/// Handles deliveries of a group. It must be idempotent by event id ([`crate::Inbox`]) and return Ok only once the effect is durable.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure>;
}

/// A member of a group: claims, runs the handler, extends leases, settles.
pub struct Consumer;

impl Consumer {
    pub fn new(_bus: Bus, _group: Group, _handler: Arc<dyn Handler>) -> Self {
        todo!()
    }
    /// Works until `drain`: then claims nothing more, releases what it has not started, finishes what it has until `drop`. Survives a bus that is away.
    pub async fn run(self, _drain: CancellationToken, _drop: CancellationToken) -> anyhow::Result<()> {
        todo!()
    }
}
