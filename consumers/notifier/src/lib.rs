//! The notifier: turns events into messages to people, by rules.
//!
//! It promises that each recipient of each rule gets one message for an event, by a ledger in its own database, but for one
//! window that no ledger can close (`sender.rs`); that a flood becomes a digest; and that what an event says can't change
//! what a message is. It doesn't ask whether a message has arrived: taken by the channel is sent.

mod channel;
mod condition;
mod digest;
mod field;
mod handler;
mod ledger;
mod mask;
mod metrics;
mod ops;
mod plan;
mod query;
mod rules;
mod sender;
mod template;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use bus::{Bus, Clock, Consumers, Group, Mode, Pace, SystemClock};
use database::Url;
use lifecycle::{Readiness, Role, Shutdown};
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;

pub use rules::{
    Channel, Channels, Console, Email, Fault, Faults, Hook, Limit, Person, Rule, Rules, Sms, Start, Template, Tls,
    Webhook,
};
pub use sender::ABORT_POINTS;

use crate::{
    channel::Channels as Senders, digest::Digester, handler::Notify, ledger::Ledger, plan::Plan, sender::Sender,
};

const NAME: &str = "notifier";

/// The commented reference of [`Rules`]; it holds the demo's.
pub const REFERENCE: &str = include_str!("../rules.yaml");

/// Events handled at once, unless told otherwise: as many as the ledger has connections for.
const CONCURRENCY: usize = 8;

/// How soon the groups are declared again where the bus is away.
const DECLARE_AGAIN: Duration = Duration::from_millis(500);

/// How often what is old leaves the ledger.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// How long attempts that are under way are waited for once all must stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// Which bus it listens to, where it keeps its ledger, and what it sends to whom.
#[derive(Clone)]
pub struct Config {
    pub bus: Bus,
    pub database: Url,
    pub rules: Rules,
    /// How its groups work; None: the defaults.
    pub pace: Option<Pace>,
}

/// The role. See [`build`].
pub struct Notifier {
    bus: Bus,
    pace: Option<Pace>,
    plan: Arc<Plan>,
    sender: Sender,
    built: OffsetDateTime,
    readiness: Readiness,
}

/// Checks the rules and opens the ledger.
///
/// # Errors
/// Everything that is wrong with the rules, by path ([`Faults`]); or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Notifier> {
    build_with(config, Arc::new(SystemClock)).await
}

/// The same by another clock, which limits, digests and the ledger go by.
///
/// # Errors
/// As [`build`].
pub async fn build_with(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Notifier> {
    let plan = Arc::new(rules::compile::compile(&config.rules)?);
    let channels = Arc::new(Senders::new(&config.rules.channels)?);
    let ledger = Ledger::open(&config.database).await.context("notifier.database")?;
    let sender = Sender { ledger, channels, clock, attempts: TaskTracker::new() };
    let readiness = Readiness::default();
    // The bus's events have the system's time.
    Ok(Notifier { bus: config.bus, pace: config.pace, plan, sender, built: OffsetDateTime::now_utc(), readiness })
}

impl Notifier {
    fn consumers(&self) -> Consumers {
        let handler = Arc::new(Notify::new(self.plan.clone(), self.sender.clone()));
        let filters = self.plan.filters().into_iter().map(Into::into).collect();
        let pace = self.pace;
        let start = match self.plan.start {
            Start::Now => bus::Start::Time(self.built),
            Start::Earliest => bus::Start::Earliest,
        };
        // Each message stands alone.
        Consumers::new(self.bus.clone(), NAME, filters, Mode::Parallel, handler).role(NAME).each(move |group| {
            let group = Group { concurrency: CONCURRENCY, start, ..group };
            match pace {
                Some(pace) => group.at(pace),
                None => group,
            }
        })
    }

    /// Ready once the groups stand: what is recorded from then on reaches them, however this process ends.
    async fn get_ready(&self) {
        while let Err(error) = self.declare().await {
            if matches!(error, bus::Error::Invalid(_)) {
                // The group's consumer ends with it.
                return;
            }
            self.readiness.not_ready("role", error.to_string());
            tokio::time::sleep(DECLARE_AGAIN).await;
        }
        self.readiness.ready("role");
    }

    async fn declare(&self) -> Result<(), bus::Error> {
        for group in self.consumers().groups().await? {
            self.bus.declare_group(group).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Role for Notifier {
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
        ops::router(self.sender.ledger.clone(), &self.plan)
    }

    fn ops_index(&self) -> lifecycle::OpsIndex {
        ops::index()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let consumers = self.consumers().run(shutdown.draining().clone(), shutdown.dropping().clone());
        let digester = Digester::new(self.plan.clone(), self.sender.clone());
        let worked = tokio::select! {
            worked = consumers => worked,
            (never, ..) = async { tokio::join!(digester.run(), trim(&self.sender), self.get_ready()) } => match never {},
        };
        self.readiness.not_ready("role", "stopped");
        // What a channel has answered must get into the ledger.
        self.sender.attempts.close();
        let patience = async {
            shutdown.dropping().cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = self.sender.attempts.wait() => {}
            () = patience => {
                let attempts = self.sender.attempts.len();
                tracing::warn!(attempts, "attempts are left whose answers nobody waits for");
            }
        }
        self.sender.ledger.close().await;
        worked
    }
}

async fn trim(sender: &Sender) -> Infallible {
    let mut timer = tokio::time::interval(TRIM_EVERY);
    loop {
        timer.tick().await;
        if let Err(error) = trim_all(sender).await {
            tracing::warn!(%error, "the ledger is not trimmed at the moment");
        }
    }
}

async fn trim_all(sender: &Sender) -> Result<(), database::Error> {
    while sender.ledger.trim(sender.now()).await? > 0 {}
    Ok(())
}
