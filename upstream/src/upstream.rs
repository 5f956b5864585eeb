//! A named service, as all cores share it.

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
    time::Instant,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    Client, Config, ConfigError, Endpoint, Error, ErrorKind, client,
    connect::{Connector, Limits},
    endpoint, grpc, health,
    lane::Lane,
    metrics::Requests,
};

/// A named service: its endpoints and their health, shared by all cores. [`Upstream::client`] makes the part that is a core's own.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

pub(crate) struct Shared {
    pub config: Config,
    /// The configured host, as a header.
    pub host: Option<HeaderValue>,
    pub endpoints: Vec<Arc<endpoint::Shared>>,
    /// None for health checks, which are no requests.
    pub metrics: Option<Requests>,
    limits: Arc<Limits>,
    /// Read by nobody on a request's way: for the operator, and to forget loads.
    clients: Mutex<Vec<Weak<client::Shared>>>,
}

impl Upstream {
    /// # Errors
    /// If the configuration isn't sound: says what, and where.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let endpoints = config
            .endpoints
            .iter()
            .map(|address| endpoint::Shared::new(&config.name, address).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Shared {
            host: config.host.as_ref().and_then(|host| host.parse().ok()),
            endpoints,
            metrics: Some(Requests::new(&config.name)),
            limits: Arc::default(),
            clients: Mutex::default(),
            config,
        })))
    }

    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// A client with connections and load figures of its own: one a core, cloned freely within it. Its connections live on the runtime it is first used on.
    pub fn client(&self) -> Client {
        let client = Client::new(Arc::clone(&self.0));
        let mut clients = self.0.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&client.0));
        client
    }

    /// A client of its own for generated tonic clients.
    pub fn channel(&self) -> grpc::Channel {
        self.client().channel()
    }

    /// Probes the endpoints until the token is cancelled. Runs on the shared runtime.
    pub async fn check_health(&self, stop: CancellationToken) {
        health::check(&self.0, stop).await;
    }

    /// Every endpoint with its state and the reason for it, for the ops listener.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let clients: Vec<_> = self.0.clients.lock().iter().filter_map(Weak::upgrade).collect();
        let in_flight = |index: usize| clients.iter().map(|client| client.lanes[index].load.in_flight()).sum();
        self.0.endpoints.iter().enumerate().map(|(index, endpoint)| endpoint.view(in_flight(index))).collect()
    }
}

impl Shared {
    /// Lanes for one client.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        let connector = |endpoint: &Arc<endpoint::Shared>| Connector {
            endpoint: Arc::clone(endpoint),
            limits: Arc::clone(&self.limits),
            timeout: self.config.connect_timeout,
        };
        self.endpoints.iter().map(|endpoint| Lane::new(connector(endpoint), self.config.protocol)).collect()
    }

    /// The same service with only one of its endpoints and no second try, for its health checks.
    pub fn alone(&self, endpoint: &Arc<endpoint::Shared>) -> Arc<Self> {
        Arc::new(Self {
            config: Config { retries: 0, ..self.config.clone() },
            host: self.host.clone(),
            endpoints: vec![Arc::clone(endpoint)],
            metrics: None,
            limits: Arc::clone(&self.limits),
            clients: Mutex::default(),
        })
    }

    /// An endpoint is back: how slow it was while it failed says nothing of how it is now.
    pub fn forget_load(&self, endpoint: usize) {
        let now = Instant::now();
        for client in self.clients.lock().iter().filter_map(Weak::upgrade) {
            client.lanes[endpoint].load.forget(now);
        }
    }

    pub fn error(&self, kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, upstream: self.config.name.clone(), detail: detail.into() }
    }
}
