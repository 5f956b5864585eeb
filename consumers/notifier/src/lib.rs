//! The notifier: turns events into messages to people, by rules.

use std::net::SocketAddr;

use async_trait::async_trait;
use bus::{Bus, Pace};
use database::Url;
use lifecycle::{Readiness, Role, Shutdown};
use serde::Deserialize;

/// Which bus it listens to, where it keeps its ledger, and what it sends to whom.
#[derive(Clone)]
pub struct Config {
    pub bus: Bus,
    pub database: Url,
    pub rules: Rules,
    /// How its groups work; None: the defaults.
    pub pace: Option<Pace>,
}

/// The channels, and which events go to whom over them; a section of the notifier's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {}

/// The role. See [`build`].
pub struct Notifier {
    readiness: Readiness,
}

/// Checks the rules and opens the ledger.
///
/// # Errors
/// Everything that is wrong with the rules, by path; or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Notifier> {
    let _ = config;
    todo!("notifier")
}

#[async_trait]
impl Role for Notifier {
    fn name(&self) -> &'static str {
        "notifier"
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let _ = shutdown;
        todo!("notifier")
    }
}
