//! Consuming as a member of a group: what a handler is and may answer, and the [`Consumer`] that runs it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Delivery, Group, member::Member, observe::Observed};

/// What becomes of a delivery whose handler failed.
#[derive(Debug)]
pub enum Failure {
    /// Again later: after `delay`, else by the schedule.
    Retry { reason: String, delay: Option<Duration> },
    /// Not now: again after `delay` (at most 24 h), without having been an attempt.
    Defer { delay: Duration },
    /// Never again: a dead letter.
    Dead { reason: String },
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Retry { reason: format!("{:#}", error.into()), delay: None }
    }
}

/// Handles deliveries of a group. It must be idempotent by event id ([`crate::Inbox`]) and return Ok only once the effect
/// is durable. A panic counts as a failure.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure>;
}

/// A member of a group: claims, runs the handler, extends leases, settles.
pub struct Consumer {
    bus: Bus,
    group: Group,
    handler: Arc<dyn Handler>,
    role: Option<&'static str>,
}

impl Consumer {
    pub fn new(bus: Bus, group: Group, handler: Arc<dyn Handler>) -> Self {
        Self { bus, group, handler, role: None }
    }

    /// The role that it works for, as traces tell it: `order`.
    #[must_use]
    pub fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// Works until `drain`: then claims nothing more, releases what it has not started, finishes what it has until
    /// `drop`. Survives a bus that is away.
    ///
    /// # Errors
    /// If the group's settings are refused.
    pub async fn run(self, drain: CancellationToken, drop: CancellationToken) -> anyhow::Result<()> {
        self.group.validate()?;
        let handler = Arc::new(Observed::new(self.handler, &self.group, self.role));
        Member::new(self.bus, self.group, handler).run(drain, drop).await
    }
}
