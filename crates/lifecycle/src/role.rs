use std::net::SocketAddr;

use async_trait::async_trait;

use crate::{OpsIndex, Readiness, Shutdown};

/// A part of the system that can be a process of its own: built first, so that its address is known, then run.
#[async_trait]
pub trait Role: Send {
    /// `gateway`, `product`, `logger`, …
    fn name(&self) -> &'static str;

    /// Where it listens, if it does; bound since it was built, so port 0 has become a real one.
    fn address(&self) -> Option<SocketAddr>;

    /// Whether it should get traffic, and why not.
    fn readiness(&self) -> Readiness;

    /// What it adds to the ops listener.
    fn ops(&self) -> axum::Router {
        axum::Router::new()
    }

    /// A line about each path of that, for the index at `/`.
    fn ops_index(&self) -> OpsIndex {
        OpsIndex::new()
    }

    /// Works until `shutdown` begins, drains, and returns. Returns an error only for what the role can't go on after.
    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()>;
}
