//! A named service, as all cores share it.

use std::{
    borrow::Cow,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Instant,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use crate::{
    Client, Config, ConfigError, Endpoint, Error, ErrorKind, Retry, client,
    connect::{Connector, Limits},
    discovery::{self, Lookup, Name, Resolve, System},
    endpoint, grpc, health,
    lane::Lane,
    metrics::Requests,
    tls::Encryption,
};

/// A named service: its endpoints and their health, shared by all cores. [`Upstream::client`] makes the part that is a core's own.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

pub(crate) struct Shared {
    pub config: Config,
    /// The configured host, as a header.
    pub host: Option<HeaderValue>,
    pub resolver: Arc<dyn Resolve>,
    /// In the order of the configuration.
    sources: Vec<Source>,
    /// What the sources give now; replaced whole.
    endpoints: Mutex<Arc<[Arc<endpoint::Shared>]>>,
    /// One more with each replacement: a load of it tells a client whether to look.
    generation: AtomicU64,
    /// Told of each replacement.
    changed: Notify,
    /// None for health checks, which are no requests.
    pub metrics: Option<Requests>,
    limits: Arc<Limits>,
    /// None: connections are in clear text.
    tls: Option<Arc<Encryption>>,
    /// Read by nobody on a request's way: for the operator, and to forget loads.
    clients: Mutex<Vec<Weak<client::Shared>>>,
}

/// Where endpoints come from.
enum Source {
    Address(Arc<endpoint::Shared>),
    Name(Name),
}

impl Upstream {
    /// Names are looked up by the system's resolver, while [`Upstream::watch`] runs.
    ///
    /// # Errors
    /// If the configuration isn't sound: says what, and where.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_resolver(config, Arc::new(System))
    }

    /// The same with another resolver.
    ///
    /// # Errors
    /// If the configuration isn't sound: says what, and where.
    pub fn with_resolver(config: Config, resolver: Arc<dyn Resolve>) -> Result<Self, ConfigError> {
        config.validate()?;
        let tls = config.tls.as_ref().map(|tls| Encryption::new(tls, config.protocol)).transpose()?.map(Arc::new);
        let source = |text: &String| match Name::parse(text) {
            Some(name) => Ok(Source::Name(name)),
            None => endpoint::Shared::new(&config.name, text).map(|endpoint| Source::Address(Arc::new(endpoint))),
        };
        let sources = config.endpoints.iter().map(source).collect::<Result<Vec<_>, _>>()?;
        let upstream = Self(Arc::new(Shared {
            host: config.host.as_ref().and_then(|host| host.parse().ok()),
            resolver,
            sources,
            endpoints: Mutex::default(),
            generation: AtomicU64::new(0),
            changed: Notify::new(),
            metrics: Some(Requests::new(&config.name)),
            limits: Arc::default(),
            tls,
            clients: Mutex::default(),
            config,
        }));
        upstream.0.renew();
        Ok(upstream)
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

    /// Looks after the endpoints until the token is cancelled: follows names, and probes how fit each endpoint is. Runs on
    /// the shared runtime. Returns at once where there is nothing to look after.
    pub async fn watch(&self, stop: CancellationToken) {
        tokio::join!(discovery::follow(&self.0, &stop), health::check(&self.0, &stop));
    }

    /// Every name of the configuration with what was last found for it, for the ops listener.
    pub fn lookups(&self) -> Vec<Lookup> {
        self.0.names().map(Name::view).collect()
    }

    /// Every endpoint with its state and the reason for it, for the ops listener.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let clients: Vec<_> = self.0.clients.lock().iter().filter_map(Weak::upgrade).collect();
        let in_flight = |endpoint: &Arc<endpoint::Shared>| {
            clients.iter().filter_map(|client| client.load(endpoint, |load| load.in_flight())).sum()
        };
        self.0.endpoints().iter().map(|endpoint| endpoint.view(in_flight(endpoint))).collect()
    }
}

impl Shared {
    /// What the sources give now.
    pub fn endpoints(&self) -> Arc<[Arc<endpoint::Shared>]> {
        Arc::clone(&self.endpoints.lock())
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.sources.iter().filter_map(|source| match source {
            Source::Name(name) => Some(name),
            Source::Address(_) => None,
        })
    }

    /// Until there are other endpoints than now.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Until there is an endpoint.
    pub async fn known(&self) {
        loop {
            let mut changed = pin!(self.changed());
            // From here on no change is missed.
            changed.as_mut().enable();
            if !self.endpoints().is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Takes over what the sources give. What was there already stays with all that is known of it.
    pub fn renew(&self) {
        let mut endpoints = self.endpoints.lock();
        let mut next: Vec<Arc<endpoint::Shared>> = Vec::new();
        for source in &self.sources {
            match source {
                Source::Address(endpoint) => next.push(Arc::clone(endpoint)),
                Source::Name(name) => {
                    for address in name.addresses().iter().map(ToString::to_string) {
                        let is_there = |known: &&Arc<endpoint::Shared>| known.address == address;
                        let stands_there = |source: &Source| match source {
                            Source::Address(endpoint) => is_there(&endpoint),
                            Source::Name(_) => false,
                        };
                        if next.iter().any(|known| is_there(&known)) || self.sources.iter().any(stands_there) {
                            continue;
                        }
                        match endpoints.iter().find(is_there) {
                            Some(known) => next.push(Arc::clone(known)),
                            None => next.extend(self.found(&address, name)),
                        }
                    }
                }
            }
        }
        let is_same =
            next.len() == endpoints.len() && next.iter().zip(endpoints.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if is_same {
            return;
        }
        for gone in endpoints.iter().filter(|known| !next.iter().any(|next| Arc::ptr_eq(next, known))) {
            tracing::info!(upstream = self.config.name, endpoint = gone.address, "endpoint is gone from its name");
            gone.retire();
        }
        *endpoints = next.into();
        self.generation.fetch_add(1, Release);
        drop(endpoints);
        self.changed.notify_waiters();
    }

    fn found(&self, address: &str, name: &Name) -> Option<Arc<endpoint::Shared>> {
        match endpoint::Shared::found(&self.config.name, address, &name.text) {
            Ok(endpoint) => {
                tracing::info!(upstream = self.config.name, endpoint = address, name = name.text, "endpoint is found");
                Some(Arc::new(endpoint))
            }
            Err(error) => {
                tracing::warn!(upstream = self.config.name, address, name = name.text, %error, "address is left out");
                None
            }
        }
    }

    /// Lanes for one client, with their generation. One that it has already, with its connections, stays.
    pub fn lanes(&self, known: &[Arc<Lane>]) -> (u64, Vec<Arc<Lane>>) {
        // Before they are read: should they change in between, they are read again.
        let generation = self.generation();
        let connector = |endpoint: &Arc<endpoint::Shared>| Connector {
            endpoint: Arc::clone(endpoint),
            limits: Arc::clone(&self.limits),
            timeout: self.config.connect_timeout,
            tls: self.tls.clone(),
        };
        let lane = |endpoint: &Arc<endpoint::Shared>| {
            let kept = known.iter().find(|lane| Arc::ptr_eq(&lane.endpoint, endpoint)).cloned();
            kept.unwrap_or_else(|| Lane::new(connector(endpoint), self.config.protocol))
        };
        (generation, self.endpoints().iter().map(lane).collect())
    }

    /// The same service with only one of its endpoints and no second try, for its health checks.
    pub fn alone(&self, endpoint: &Arc<endpoint::Shared>) -> Arc<Self> {
        Arc::new(Self {
            config: Config { retry: Retry { attempts: 0, ..Retry::default() }, hedge: None, ..self.config.clone() },
            host: self.host.clone(),
            resolver: Arc::clone(&self.resolver),
            sources: vec![Source::Address(Arc::clone(endpoint))],
            endpoints: Mutex::new([Arc::clone(endpoint)].into()),
            generation: AtomicU64::new(0),
            changed: Notify::new(),
            metrics: None,
            limits: Arc::clone(&self.limits),
            tls: self.tls.clone(),
            clients: Mutex::default(),
        })
    }

    /// An endpoint is back: how slow it was while it failed says nothing of how it is now.
    pub fn forget_load(&self, endpoint: &Arc<endpoint::Shared>) {
        let now = Instant::now();
        for client in self.clients.lock().iter().filter_map(Weak::upgrade) {
            client.load(endpoint, |load| load.forget(now));
        }
    }

    pub fn error(&self, kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, upstream: self.config.name.clone(), detail: detail.into() }
    }
}
