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
use bus::{Bus, Consumers, Group, Mode, Pace};
use database::Url;
use events::Pattern;
use lifecycle::{Readiness, Role, Shutdown};

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
    /// As in `DB/*`, `*/*`. The group of the first queue that is named is `logger`, of the others `logger.<QUEUE>`
    /// ([`Consumers`]).
    pub filters: Vec<Pattern>,
    /// How it works; None: 8 events at once, as many as its database has connections.
    pub pace: Option<Pace>,
}

/// The role. See [`build`].
pub struct Logger {
    bus: Bus,
    filters: Vec<Pattern>,
    pace: Option<Pace>,
    store: Store,
    readiness: Readiness,
}

/// Opens the database.
///
/// # Errors
/// If there is nothing to log, a queue is named twice, or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Logger> {
    ensure!(!config.filters.is_empty(), "logger.filters: must name at least one");
    let named: Vec<_> = config.filters.iter().filter_map(|filter| filter.queue.as_ref()).collect();
    let queues: BTreeSet<_> = named.iter().collect();
    ensure!(queues.len() == named.len(), "logger.filters: two are on the same queue; write QUEUE/{{A,B}}");
    let store = Store::open(&config.database).await.context("logger.database")?;
    Ok(Logger { bus: config.bus, filters: config.filters, pace: config.pace, store, readiness: Readiness::default() })
}

impl Logger {
    fn consumers(&self) -> Consumers {
        let recorder = Arc::new(Recorder::new(self.store.clone()));
        let pace = self.pace;
        // Each event stands alone: their order is in the log, and in each event's time.
        Consumers::new(self.bus.clone(), NAME, self.filters.clone(), Mode::Parallel, recorder).role(NAME).each(
            move |group| {
                let group = Group { concurrency: CONCURRENCY, ..group };
                match pace {
                    Some(pace) => group.at(pace),
                    None => group,
                }
            },
        )
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
        let consumers = self.consumers().run(shutdown.draining().clone(), shutdown.dropping().clone());
        self.readiness.ready("role");
        let worked = tokio::select! {
            worked = consumers => worked,
            never = trim(&self.store) => match never {},
        };
        self.readiness.not_ready("role", "stopped");
        self.store.close().await;
        worked
    }
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
