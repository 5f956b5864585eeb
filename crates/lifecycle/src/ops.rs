//! The ops listener: `/livez`, `/readyz`, `/metrics` of every role, and what a role adds.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;

use crate::Shutdown;

/// Whether a role should get traffic. Clones speak of the same role; it starts not ready, with the reason `starting`.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(BTreeMap::from([("role", "starting".to_owned())]))))
    }
}

impl Readiness {
    /// Removes the reason `part` had not to be ready. A role calls `ready("role")` once it serves.
    pub fn ready(&self, part: &'static str) {
        self.0.lock().remove(part);
    }

    /// Says why `part` is not ready.
    pub fn not_ready(&self, part: &'static str, reason: impl Into<String>) {
        self.0.lock().insert(part, reason.into());
    }

    pub fn is_ready(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// What is not ready, and why.
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.0.lock().clone()
    }
}

/// The readiness of the roles behind one ops listener, by name.
type Roles = Arc<Mutex<BTreeMap<String, Readiness>>>;

/// An ops listener, bound but not yet serving.
pub struct Ops {
    listener: TcpListener,
    address: SocketAddr,
    roles: Roles,
    router: Router,
}

impl Ops {
    /// Binds the listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("the ops listener can't have {address}: is another process on it?"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, roles: Roles::default(), router: Router::new() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts a role's readiness into `/readyz`.
    pub fn watch(&self, name: impl Into<String>, readiness: Readiness) {
        self.roles.lock().insert(name.into(), readiness);
    }

    /// Adds routes.
    #[must_use]
    pub fn merge(mut self, router: Router) -> Self {
        self.router = self.router.merge(router);
        self
    }

    /// Serves until `shutdown` drops; a draining process still tells that it isn't ready.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let dropping = shutdown.dropping().clone().cancelled_owned();
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state((self.roles, shutdown))
            .merge(self.router);
        let serve = axum::serve(self.listener, router);
        // An open scrape doesn't hold up the end of the process.
        tokio::select! {
            served = async { serve.await } => served.context("ops listener"),
            () = dropping => Ok(()),
        }
    }
}

async fn readyz(State((roles, shutdown)): State<(Roles, Shutdown)>) -> impl IntoResponse {
    let mut waiting: BTreeMap<String, BTreeMap<&'static str, String>> = roles
        .lock()
        .iter()
        .filter(|(_, readiness)| !readiness.is_ready())
        .map(|(name, readiness)| (name.clone(), readiness.reasons()))
        .collect();
    if shutdown.draining().is_cancelled() {
        waiting.insert("process".to_owned(), BTreeMap::from([("drain", "shutting down".to_owned())]));
    }
    let status = if waiting.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": waiting.is_empty(), "waiting": waiting })))
}

async fn metrics() -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
}
