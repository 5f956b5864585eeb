//! Calling a service: where it is, which endpoint is fit, which connection is free, how long it may take, whether to try
//! again. Speaks HTTP/1.1, HTTP/2 and gRPC; knows nothing of routes or of who asks.

mod balance;
mod body;
mod client;
mod config;
mod error;
pub mod grpc;
mod health;

pub use body::{Body, BoxError};
pub use client::{Client, Options};
pub use config::{Config, Health, Protocol};
pub use error::{Error, ErrorKind};

use std::sync::Arc;

/// A named service: its endpoints and their health, shared by all cores. [`Upstream::client`] makes the part that is a core's own.
#[derive(Clone)]
pub struct Upstream(Arc<()>);

impl Upstream {
    pub fn new(_config: Config) -> Result<Self, ConfigError> {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
    /// A client with connections and load figures of its own: one a core, cloned freely within it. Its connections live on the runtime it is first used on.
    pub fn client(&self) -> Client {
        todo!()
    }
    /// Probes the endpoints until the token is cancelled. Runs on the shared runtime.
    pub async fn check_health(&self, _stop: tokio_util::sync::CancellationToken) {
        todo!()
    }
    /// Every endpoint with its state and the reason for it, for the ops listener.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        todo!()
    }
}

/// An endpoint's state, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Endpoint {
    pub address: String,
    pub healthy: bool,
    pub reason: String,
    pub in_flight: usize,
}

/// What is wrong with an upstream's configuration, with the path below the upstream.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}
