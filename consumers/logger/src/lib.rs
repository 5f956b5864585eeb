//! The logger: stores every event it is given once, in its own database, and counts them by queue, event, source and
//! minute.
//!
//! An event, its place in the inbox and its count are one transaction, and the delivery is acknowledged after it: a
//! repeated delivery changes nothing. It answers questions on the ops listener (`ops.rs`) and never forgets an event by
//! itself.

mod handler;
mod ops;
mod query;
mod store;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use bus::{Bus, Consumer, Group, Mode, Pace};
use database::Url;
use events::Filter;
use lifecycle::{Readiness, Role, Shutdown};
use tokio::task::JoinSet;

use crate::{handler::Recorder, store::Store};

const NAME: &str = "logger";

/// As many handlers at once as a database has connections for.
const CONCURRENCY: usize = 8;

/// How often old marks leave the inbox.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// What to log, and where.
#[derive(Clone)]
pub struct Config {
    pub database: Url,
    pub bus: Bus,
    /// At most one a queue. The group of the first is `logger`, of the others `logger-<QUEUE>`.
    pub filters: Vec<Filter>,
    /// How it works; None: 8 events at once, as many as its database has connections.
    pub pace: Option<Pace>,
}

/// The role. See [`build`].
pub struct Logger {
    bus: Bus,
    filters: Vec<Filter>,
    pace: Option<Pace>,
    store: Store,
    readiness: Readiness,
}

/// Opens the database.
///
/// # Errors
/// If there is nothing to log, two filters are on one queue, or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Logger> {
    ensure!(!config.filters.is_empty(), "logger.filters: must name at least one");
    let queues: BTreeSet<&str> = config.filters.iter().map(|filter| filter.queue.as_str()).collect();
    ensure!(queues.len() == config.filters.len(), "logger.filters: two are on the same queue; write QUEUE/{{A,B}}");
    let store = Store::open(&config.database).await.context("logger.database")?;
    Ok(Logger { bus: config.bus, filters: config.filters, pace: config.pace, store, readiness: Readiness::default() })
}

impl Logger {
    fn consumers(&self) -> impl Iterator<Item = Consumer> {
        let recorder = Arc::new(Recorder::new(self.store.clone()));
        self.filters.iter().enumerate().map(move |(at, filter)| {
            let name = if at == 0 { NAME.to_owned() } else { format!("{NAME}-{}", filter.queue) };
            // Each event stands alone: their order is in the log, and in each event's time.
            let mut group = Group::new(&name, filter.clone(), Mode::Parallel);
            group.concurrency = CONCURRENCY;
            let group = match self.pace {
                Some(pace) => group.at(pace),
                None => group,
            };
            Consumer::new(self.bus.clone(), group, recorder.clone()).role(NAME)
        })
    }
}

#[async_trait]
impl Role for Logger {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn ops(&self) -> axum::Router {
        ops::router(self.store.clone())
    }

    fn ops_index(&self) -> lifecycle::OpsIndex {
        ops::index()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut consumers = JoinSet::new();
        for consumer in self.consumers() {
            consumers.spawn(consumer.run(shutdown.draining().clone(), shutdown.dropping().clone()));
        }
        self.readiness.ready("role");
        let worked = tokio::select! {
            worked = finish(&mut consumers) => worked,
            never = trim(&self.store) => match never {},
        };
        self.readiness.not_ready("role", "stopped");
        self.store.close().await;
        worked
    }
}

/// Waits for all of them, or for the first that fails.
async fn finish(consumers: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = consumers.join_next().await {
        ended.context("a consumer panicked")??;
    }
    Ok(())
}

async fn trim(store: &Store) -> std::convert::Infallible {
    let mut timer = tokio::time::interval(TRIM_EVERY);
    loop {
        timer.tick().await;
        if let Err(error) = store.trim().await {
            tracing::warn!(%error, "the inbox is not trimmed at the moment");
        }
    }
}
