//! Running a service, and stopping it in the order that loses nothing: it says that it leaves before it takes nothing new;
//! calls and consumers make events, so the relay that publishes them stops after them, and the database that all of them use
//! last.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use axum::{Json, Router, routing::get};
use database::Database;
use lifecycle::{OpsIndex, Readiness, Role, Shutdown};
use principal::{Signer, Verifier};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    announce::{self, Presence},
    health::Health,
    inbox, listener,
    periodic::Periodic,
    stack::stack,
};

/// How long the drain may take that a failing part began; any other has its end from who began it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the database's connections may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A service, built and bound.
pub struct Service {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
    pub(crate) relay: outbox::Relay,
    pub(crate) database: Database,
    pub(crate) signer: Signer,
    pub(crate) verifier: Verifier,
    pub(crate) rpcs: Routes,
    pub(crate) served: Vec<&'static str>,
    pub(crate) consumers: Vec<bus::Consumer>,
    pub(crate) tasks: Vec<Periodic>,
    pub(crate) presence: Option<Presence>,
    pub(crate) readiness: Readiness,
}

impl Service {
    fn keys_path(&self) -> String {
        format!("/services/{}/.well-known/jwks.json", self.name)
    }
}

#[async_trait]
impl Role for Service {
    fn name(&self) -> &'static str {
        self.name
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The keys that verify what the service signs. The path has its name: an ops listener may be that of several roles.
    fn ops(&self) -> Router {
        let jwks = self.signer.jwks();
        Router::new().route(&self.keys_path(), get(move || async move { Json(jwks) }))
    }

    fn ops_index(&self) -> OpsIndex {
        vec![(format!("GET {}", self.keys_path()), "the keys that verify what the service signs")]
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            name, listener, relay, database, verifier, rpcs, served, consumers, tasks, presence, readiness, ..
        } = *self;
        // A part that fails takes the others along, but in order: they drain as if asked to.
        let own = shutdown.part();
        let mut work = JoinSet::new();
        for consumer in consumers {
            work.spawn(consumer.run(own.draining().clone(), own.dropping().clone()));
        }
        for task in tasks {
            let drain = own.draining().clone();
            work.spawn(async move {
                task.run(drain).await;
                Ok(())
            });
        }
        let trim = inbox::trim(database.clone(), own.draining().clone());
        work.spawn(async move {
            trim.await;
            Ok(())
        });
        let health = Health::new(&served).await;
        health.serving().await;
        work.spawn(serve(listener, stack(name, rpcs, verifier, own.dropping().clone()), health, own.clone()));
        let drain_relay = CancellationToken::new();
        let mut publishing = JoinSet::new();
        publishing.spawn(relay.run(drain_relay.clone()));
        readiness.ready("role");
        tracing::info!(role = name, "serving");
        let leaving = shutdown.leaving().child_token();
        let present = tokio::spawn(announce::attend(presence, leaving.clone()));

        let failed = tokio::select! {
            // First: once it was told to, a part may well have ended.
            biased;
            () = shutdown.draining().cancelled() => Ok(()),
            Some(ended) = work.join_next() => early(ended),
            Some(ended) = publishing.join_next() => early(ended),
        };
        readiness.not_ready("role", "draining");
        leaving.cancel();
        tokio::select! { _ = present => {} () = own.dropping().cancelled() => {} }
        if failed.is_err() {
            own.begin(PATIENCE);
        } else {
            own.drain();
        }
        let drained = drain(&mut work, own.dropping()).await;
        drain_relay.cancel();
        let published = drain(&mut publishing, own.dropping()).await;
        // Bounded: a call that was dropped a moment ago may still be giving its connection back.
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, database.close()).await;
        if closed.is_err() {
            tracing::warn!(role = name, "the database's connections were not all given back");
        }
        failed.and(drained).and(published).with_context(|| format!("{name} stopped"))
    }
}

type Ended = Result<anyhow::Result<()>, tokio::task::JoinError>;

/// Before the drain, no part may end.
fn early(ended: Ended) -> anyhow::Result<()> {
    ended??;
    anyhow::bail!("a part of it ended before it was told to")
}

/// Waits for all to end, until `dropping`; the first error counts.
async fn drain(parts: &mut JoinSet<anyhow::Result<()>>, dropping: &CancellationToken) -> anyhow::Result<()> {
    let mut result = Ok(());
    loop {
        tokio::select! {
            ended = parts.join_next() => match ended {
                Some(ended) => result = result.and(ended.map_err(Into::into).flatten()),
                None => return result,
            },
            () = dropping.cancelled() => {
                tracing::warn!(parts = parts.len(), "the drain took too long; the rest is dropped");
                parts.shutdown().await;
                return result;
            }
        }
    }
}

/// Serves until the drain, then finishes the calls that are open.
async fn serve(listener: TcpListener, rpcs: Routes, mut health: Health, shutdown: Shutdown) -> anyhow::Result<()> {
    let reflection = tonic_reflection::server::Builder::configure()
        // The encoded form: passing through prost-types would drop the google.api.http annotations.
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .context("reflection")?;
    let routes = rpcs.add_service(health.server()).add_service(reflection).prepare();
    let draining = shutdown.draining().clone();
    let drain = async move {
        draining.cancelled().await;
        health.drain().await;
    };
    tokio::join!(drain, listener::serve(listener, routes, shutdown));
    Ok(())
}
