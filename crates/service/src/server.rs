use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use database::{Database, Migration};
use lifecycle::{Readiness, Role, Shutdown};

/// What every service needs to be told.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub database: database::Url,
    pub bus: bus::Bus,
    /// Whose principal tokens are believed.
    pub issuers: Vec<principal::Issuer>,
    /// Signs what the service does on its own (`/services/<name>`), and its page tokens.
    pub root: principal::RootSecret,
    /// Puts demo data into an empty database.
    pub seed: bool,
}

/// Puts a service together: database first (migrated), then listener, RPCs, consumers, tasks.
pub struct Builder(());

impl Builder {
    /// Opens the database (schema `name`; `migrations` plus the outbox's) and binds the listener.
    pub async fn new(_name: &'static str, _config: Config, _migrations: &[Migration]) -> anyhow::Result<Self> {
        todo!()
    }
    pub fn database(&self) -> Database {
        todo!()
    }
    pub fn bus(&self) -> bus::Bus {
        todo!()
    }
    /// Signs as `/services/<name>`.
    pub fn signer(&self) -> principal::Signer {
        todo!()
    }
    pub fn page_token(&self) -> super::PageToken {
        todo!()
    }
    /// Adds a gRPC service (a generated `…Server`).
    #[must_use]
    pub fn grpc<S>(self, _server: S) -> Self
    where
        S: tower::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<tonic::body::Body>,
                Error = std::convert::Infallible,
            > + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        todo!()
    }
    /// Runs a member of a group beside the server.
    #[must_use]
    pub fn consumer(self, _group: bus::Group, _handler: Arc<dyn bus::Handler>) -> Self {
        todo!()
    }
    /// Runs `work` every `period` (first after one period) until the drain; errors are logged and counted.
    #[must_use]
    pub fn every<F, Fut>(self, _name: &'static str, _period: Duration, _work: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        todo!()
    }
    pub fn build(self) -> Service {
        todo!()
    }
}

/// A service, built and bound.
pub struct Service(());

#[async_trait::async_trait]
impl Role for Service {
    fn name(&self) -> &'static str {
        todo!()
    }
    fn address(&self) -> Option<SocketAddr> {
        todo!()
    }
    fn readiness(&self) -> Readiness {
        todo!()
    }
    async fn run(self: Box<Self>, _shutdown: Shutdown) -> anyhow::Result<()> {
        todo!()
    }
}
