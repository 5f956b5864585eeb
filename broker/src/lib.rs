//! The bus for clients: publish over HTTP; follow over WebSocket, SSE and long-poll; see queues, groups and connections. For
//! services in any language all of that over gRPC, and the work of a group's member.
//!
//! It stands behind the gateway, which says who calls (`turnpike-principal`); what the caller may do is decided here, by
//! its scopes (`access.rs`). Of a client it keeps nothing: its place is the cursor that the client holds, or that the bus holds
//! for it, and any broker on the same bus goes on from it. What is to be kept, jobs and what clients publish into queues with
//! a journal, is in a database that the brokers share.

mod access;
mod asyncapi;
mod begin;
mod body;
mod bridge;
mod confirm;
mod connections;
mod cursor;
mod departure;
mod direct;
mod durable;
mod duration;
mod filter;
mod follow;
mod groups;
mod grpc;
mod hub;
mod jobs;
mod listener;
mod long_poll;
mod metrics;
mod overload;
mod page;
mod path;
mod presence;
mod problem;
mod publish;
mod query;
mod queues;
mod rooms;
mod script;
mod seal;
mod settings;
mod shared;
mod sse;
mod stack;
mod stall;
mod status;
mod subscriptions;
mod told;
mod view;
mod watch;
mod webhooks;
mod websocket;
mod work;

use std::{net::SocketAddr, sync::Arc};

use ::jobs::{Jobs, Options};
use ::webhooks::Webhooks;
use anyhow::Context as _;
use async_trait::async_trait;
use axum::Router;
use bus::{Attendance, Bus, Receipts};
use database::{Database, Migration, Url};
use lifecycle::{Readiness, Role, Shutdown};
use outbox::{Journal, Relay};
use principal::{Issuer, RootSecret, Verifier};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    durable::Durable,
    hub::Hub,
    overload::{Gauge, Overload},
    problem::{Kind, Problem},
    seal::Seal,
    shared::Shared,
};

pub use bridge::{Bridge, Config as BridgeConfig, Rule as BridgeRule};
pub use direct::{event_directly, status_directly};
pub use groups::count_members;
pub use jobs::JobSource;
pub use overload::Signals;
pub use publish::publish_directly;
pub use settings::Settings;
pub use view::{AttemptView, GroupView, LetterView, PartitionView, QueueView, cursor_text, read_cursor};

/// Where it listens, which bus it opens to clients, and whose principals it believes.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub bus: Bus,
    pub issuers: Vec<Issuer>,
    /// What keys derive from: every broker of a system has the same. None: secrets are kept as they
    /// are, and cursors are not signed.
    pub root: Option<RootSecret>,
    /// Where it keeps jobs, webhooks, and what clients publish into queues with `journal: true`. None: there are none of them here.
    pub database: Option<Url>,
    pub settings: Settings,
}

const NAME: &str = "broker";
/// Whose outbox the journal is, where it tells of itself.
const SOURCE: &str = "/broker";

/// What clients are offered, as OpenAPI: for the document of a gateway in front.
pub const OPENAPI: &[u8] = include_bytes!("../openapi.yaml");

/// Connections beside those of clients that follow: for publishing and asking.
const MORE_CONNECTIONS: usize = 1024;

/// The role. See [`build`].
pub struct Broker {
    config: Config,
    database: Option<Database>,
    listener: TcpListener,
    address: SocketAddr,
    readiness: Readiness,
    gauge: Option<Gauge>,
    bridge: Option<Bridge>,
    sources: Vec<JobSource>,
}

/// Opens the database and binds the listener.
///
/// # Errors
/// If the database can't be opened, or the address is taken.
pub async fn build(config: Config) -> anyhow::Result<Broker> {
    let database = match &config.database {
        Some(url) => Some(Database::open(url, NAME, &migrations()).await?),
        None => None,
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("{NAME} can't have {}: is another process on it?", config.listen))?;
    let address = listener.local_addr()?;
    Ok(Broker {
        config,
        database,
        listener,
        address,
        readiness: Readiness::default(),
        gauge: None,
        bridge: None,
        sources: Vec::new(),
    })
}

/// The journal's, and those of jobs and webhooks: numbered apart, so that each may get more.
fn migrations() -> Vec<Migration> {
    let journal = [outbox::migration(1), outbox::journal_migration(2)];
    journal.into_iter().chain(::jobs::migrations(20)).chain(::webhooks::migrations()).collect()
}

impl Broker {
    /// Has what is published on channels of a Redis become events.
    #[must_use]
    pub fn bridging(self, bridge: Bridge) -> Self {
        Self { bridge: Some(bridge), ..self }
    }

    /// Makes jobs of events.
    ///
    /// # Errors
    /// If they contradict themselves, or there is no database to keep jobs in.
    pub fn making_jobs(self, sources: Vec<JobSource>) -> anyhow::Result<Self> {
        if let Some((place, fault)) = JobSource::faults(&sources).into_iter().next() {
            anyhow::bail!("jobs{place}: {fault}");
        }
        anyhow::ensure!(sources.is_empty() || self.database.is_some(), "jobs: there is no database to keep them in");
        Ok(Self { sources, ..self })
    }

    /// Judges by these how much there is, and not by what the process itself has to bear.
    #[must_use]
    pub fn measured_by(self, gauge: impl Fn() -> Signals + Send + Sync + 'static) -> Self {
        Self { gauge: Some(Arc::new(gauge)), ..self }
    }
}

#[async_trait]
impl Role for Broker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config: Config { bus, issuers, root, settings, .. },
            database,
            listener,
            readiness,
            gauge,
            bridge,
            sources,
            ..
        } = *self;
        let Settings { connections, waiters, queues, stall, .. } = settings;
        let receipts = Receipts::new(bus.clone()).run(shutdown.draining().clone(), shutdown.dropping().clone());
        let receipts = tokio::spawn(receipts);
        let jobs = database.as_ref().map(|database| Jobs::on(bus.clone(), database.clone(), Options::default()));
        let tending = jobs.clone().map(|jobs| {
            let drain = shutdown.draining().clone();
            tokio::spawn(async move { jobs.tend(drain).await })
        });
        let webhooks = match &database {
            Some(database) => {
                Some(Webhooks::new(bus.clone(), database.clone(), webhook_options(root.clone(), &settings))?)
            }
            None => None,
        };
        let delivering = webhooks.clone().map(|webhooks| {
            let (drain, drop) = (shutdown.draining().clone(), shutdown.dropping().clone());
            tokio::spawn(async move { webhooks.run(drain, drop).await })
        });
        let making = TaskTracker::new();
        for source in sources {
            let jobs = jobs.clone().into_iter();
            jobs.for_each(|jobs| _ = making.spawn(source.clone().run(bus.clone(), jobs, shutdown.clone())));
        }
        making.close();
        let relay = database.as_ref().map(|database| {
            tokio::spawn(Relay::new(database.clone(), bus.clone(), SOURCE).run(shutdown.draining().clone()))
        });
        let bridging = bridge.map(|bridge| {
            let (drain, drop) = (shutdown.draining().clone(), shutdown.dropping().clone());
            tokio::spawn(bridge.run(bus.clone(), drain, drop))
        });
        let (overload, watched) = (Overload::default(), bus.clone());
        let (attendance, absent) = (Attendance::new(bus.clone()), CancellationToken::new());
        let attending = tokio::spawn(attendance.clone().run(absent.clone()));
        // Should nobody end it in order.
        let _absent = absent.clone().drop_guard();
        let shared = Shared {
            hub: Hub::new(bus.clone(), queues, overload.clone()),
            journal: database.map(|database| Arc::new(Journal::new(database, bus.clone()))),
            jobs,
            webhooks,
            durable: Durable::new(bus.clone()),
            seal: root.as_ref().map(Seal::new).unwrap_or_default(),
            bus,
            attendance,
            verifier: Verifier::new(issuers),
            settings: Arc::new(settings),
            shutdown: shutdown.clone(),
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            waiters: Arc::new(Semaphore::new(waiters.min(Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            seen: Arc::default(),
            overload: overload.clone(),
        };
        let (hub, tasks) = (shared.hub.clone(), shared.tasks.clone());
        let _stop = hub.stop_on_drop();
        let everyone_left = CancellationToken::new();
        let durable = tokio::spawn(shared.durable.clone().run(everyone_left.clone()));
        let _written = everyone_left.clone().drop_guard();
        let mut health = grpc::Health::serving().await;
        let calls = grpc::router(&shared, &health)?;
        let router = stack::stack(routes().with_state(shared).merge(calls));
        readiness.ready("role");
        let draining = async {
            shutdown.draining().cancelled().await;
            readiness.not_ready("role", "shutting down");
            health.drain().await;
        };
        let bounds = listener::Bounds { connections: connections.saturating_add(MORE_CONNECTIONS), stall };
        let serving = async { tokio::join!(draining, listener::serve(listener, router, bounds, shutdown.clone())) };
        tokio::select! {
            ((), ()) = serving => {}
            () = overload.watch(&watched, connections, gauge, &readiness) => {}
        }
        tasks.close();
        tasks.wait().await;
        // Its clients went; the bus is told before it is let go.
        absent.cancel();
        let _ = attending.await;
        everyone_left.cancel();
        let _ = durable.await;
        // It ends with the drain, and what it had is settled or comes again.
        let _ = receipts.await;
        if let Some(delivering) = delivering {
            // What was sent is finished; what wasn't comes again.
            let _ = delivering.await;
        }
        if let Some(relay) = relay {
            // What it has not sent again it sends at the next start.
            let _ = relay.await;
        }
        if let Some(bridging) = bridging {
            let _ = bridging.await;
        }
        making.wait().await;
        if let Some(tending) = tending {
            // Another broker looks after jobs, or this one after its next start.
            let _ = tending.await;
        }
        hub.stop().await;
        Ok(())
    }
}

fn webhook_options(root: Option<RootSecret>, settings: &Settings) -> ::webhooks::Options {
    let Settings { allow_private_networks, webhook_authorities: authorities, public_url, .. } = settings.clone();
    ::webhooks::Options { root, allow_private_networks, authorities, public_url, ..::webhooks::Options::default() }
}

fn routes() -> Router<Shared> {
    Router::new()
        .merge(follow::router())
        .merge(websocket::router())
        .merge(subscriptions::router())
        .merge(publish::router())
        .merge(status::router())
        .merge(queues::router())
        .merge(groups::router())
        .merge(connections::router())
        .merge(asyncapi::router())
        .merge(work::router())
        .merge(jobs::router())
        .merge(script::router())
        .merge(webhooks::router())
        .merge(presence::router())
        .merge(rooms::router())
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed, "not with this method"))
        .fallback(async || Problem::not_found("there is nothing at this path"))
}
