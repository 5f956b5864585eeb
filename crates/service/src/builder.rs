//! Putting a service together.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use database::{Database, Migration};
use principal::{Signer, Verifier};
use tokio::net::TcpListener;
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
};

use crate::{Announce, PageToken, Service, announce::Presence, periodic::Periodic};

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
    /// How its consumers work; None: as their groups declare.
    pub pace: Option<bus::Pace>,
    /// Where instances announce themselves; None: nowhere.
    pub registry: Option<registry::Registry>,
    /// How this one does, under the service's name, in `registry`; None: it doesn't.
    pub announce: Option<Announce>,
}

/// Puts a service together: database first (migrated), then listener, RPCs, consumers, tasks.
pub struct Builder {
    name: &'static str,
    database: Database,
    bus: bus::Bus,
    pace: Option<bus::Pace>,
    listener: TcpListener,
    address: SocketAddr,
    signer: Signer,
    page_token: PageToken,
    verifier: Verifier,
    rpcs: RoutesBuilder,
    served: Vec<&'static str>,
    consumers: Vec<bus::Consumer>,
    tasks: Vec<Periodic>,
    registry: Option<registry::Registry>,
    presence: Option<Presence>,
}

impl Builder {
    /// Opens the database (schema `name`; `migrations` plus the outbox's, 9001, and the inbox's, 9002) and binds the
    /// listener.
    ///
    /// # Errors
    /// If the database can't be opened or migrated, the address is taken, or is none that can be announced.
    pub async fn new(name: &'static str, config: Config, migrations: &[Migration]) -> anyhow::Result<Self> {
        let mut migrations = migrations.to_vec();
        migrations.extend([outbox::migration(9001), bus::Inbox::migration(9002)]);
        let database = Database::open(&config.database, name, &migrations)
            .await
            .with_context(|| format!("{name}: the database can't be opened"))?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("{name} can't have {}: is another process on it?", config.listen))?;
        let address = listener.local_addr()?;
        let presence = match (&config.registry, config.announce) {
            (Some(registry), Some(announce)) => Some(Presence::new(registry, name, address, announce).await?),
            (None, Some(_)) => anyhow::bail!("{name} is to be announced, and there is no registry"),
            (_, None) => None,
        };
        Ok(Self {
            name,
            database,
            bus: config.bus,
            pace: config.pace,
            listener,
            address,
            signer: Signer::new(&format!("/services/{name}"), &config.root),
            page_token: PageToken::new(config.root.derive(&format!("page-token {name}"))),
            verifier: Verifier::new(config.issuers),
            rpcs: Routes::builder(),
            served: Vec::new(),
            consumers: Vec::new(),
            tasks: Vec::new(),
            registry: config.registry,
            presence,
        })
    }

    pub fn database(&self) -> Database {
        self.database.clone()
    }

    pub fn bus(&self) -> bus::Bus {
        self.bus.clone()
    }

    /// Signs as `/services/<name>`.
    pub fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// Where instances announce themselves, for the services it calls.
    pub fn registry(&self) -> Option<registry::Registry> {
        self.registry.clone()
    }

    pub fn page_token(&self) -> PageToken {
        self.page_token.clone()
    }

    /// Adds a gRPC service (a generated `…Server`). A message may have at most 4 MiB, tonic's own bound.
    #[must_use]
    pub fn grpc<S>(mut self, server: S) -> Self
    where
        S: tower::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<tonic::body::Body>,
                Error = Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.rpcs.add_service(server);
        self.served.push(S::NAME);
        self
    }

    /// Runs a member of a group beside the server.
    #[must_use]
    pub fn consumer(mut self, group: bus::Group, handler: Arc<dyn bus::Handler>) -> Self {
        let group = match self.pace {
            Some(pace) => group.at(pace),
            None => group,
        };
        self.consumers.push(bus::Consumer::new(self.bus.clone(), group, handler).role(self.name));
        self
    }

    /// Runs `work` every `period` (first after one period) until the drain; errors and panics are logged and counted. Two
    /// runs never overlap in one instance; other instances have their own.
    #[must_use]
    pub fn every<F, Fut>(mut self, name: &'static str, period: Duration, work: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.tasks.push(Periodic::new(self.name, name, period, work));
        self
    }

    pub fn build(self) -> Service {
        Service {
            name: self.name,
            address: self.address,
            listener: self.listener,
            relay: outbox::Relay::new(self.database.clone(), self.bus, self.signer.issuer()),
            database: self.database,
            signer: self.signer,
            verifier: self.verifier,
            rpcs: self.rpcs.routes(),
            served: self.served,
            consumers: self.consumers,
            tasks: self.tasks,
            presence: self.presence,
            readiness: lifecycle::Readiness::default(),
        }
    }
}
