//! The bus for clients: publish over HTTP; follow over WebSocket, SSE and long-poll; see queues, groups and connections.
//!
//! It stands behind the gateway, which says who calls (`turnpike-principal`); what the caller may do is decided here, by
//! its scopes (`access.rs`). It keeps nothing: a client's place is the cursor that the client holds, and any broker on the
//! same bus goes on from it.

mod access;
mod body;
mod confirm;
mod connections;
mod cursor;
mod duration;
mod filter;
mod groups;
mod hub;
mod page;
mod problem;
mod publish;
mod query;
mod queues;
mod settings;
mod shared;
mod status;
mod view;

use std::net::SocketAddr;

use async_trait::async_trait;
use bus::Bus;
use lifecycle::{Readiness, Role, Shutdown};
use principal::Issuer;

pub use groups::count_members;
pub use publish::publish_directly;
pub use settings::Settings;
pub use view::{AttemptView, GroupView, LetterView, PartitionView, QueueView};

/// Where it listens, which bus it opens to clients, and whose principals it believes.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub bus: Bus,
    pub issuers: Vec<Issuer>,
    pub settings: Settings,
}

/// The role. See [`build`].
pub struct Broker {
    address: SocketAddr,
    readiness: Readiness,
}

/// Binds the listener.
///
/// # Errors
/// If the address is taken.
pub async fn build(config: Config) -> anyhow::Result<Broker> {
    let _ = config;
    todo!("broker")
}

#[async_trait]
impl Role for Broker {
    fn name(&self) -> &'static str {
        "broker"
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let _ = shutdown;
        todo!("broker")
    }
}
