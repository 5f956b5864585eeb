//! The operator's live page: what happens on the bus and in front of it, while one watches.

use std::net::SocketAddr;

use async_trait::async_trait;
use bus::Bus;
use database::Url;
use lifecycle::{Readiness, Role, Shutdown};
use principal::Issuer;

/// Where it listens, what it watches, and whose principals it believes.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub bus: Bus,
    /// Where the counts are kept, with the position they are true of.
    pub database: Url,
    pub issuers: Vec<Issuer>,
    /// The gateways to show: `http://host:port` of each one's ops listener.
    pub gateways: Vec<String>,
}

/// The role. See [`build`].
pub struct Dashboard {
    address: SocketAddr,
    readiness: Readiness,
}

/// Opens the database and binds the listener.
///
/// # Errors
/// If the address is taken or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Dashboard> {
    let _ = config;
    todo!("dashboard")
}

#[async_trait]
impl Role for Dashboard {
    fn name(&self) -> &'static str {
        "dashboard"
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let _ = shutdown;
        todo!("dashboard")
    }
}
