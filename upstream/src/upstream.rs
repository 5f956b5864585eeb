//! A named service, as all cores share it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Weak},
    time::Instant,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use crate::{
    Client, Config, ConfigError, Endpoint, Error, ErrorKind, Retry,
    breaker::{self, Gate, Tally},
    caps::{Limits, Share},
    choice, client,
    connect::Connector,
    discovery::{self, Discovery, Dns, Finder, Found, Resolve},
    endpoint, grpc, health,
    lane::Lane,
    metrics::Requests,
    roster::Roster,
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
    /// The addresses of those that are not to be chosen now.
    standing_back: Mutex<BTreeSet<String>>,
    /// Read by nobody on a request's way.
    draining: Mutex<Vec<Draining>>,
    /// Tells clients whether to look.
    pub roster: Arc<Roster>,
    /// Told of each replacement.
    changed: Notify,
    /// None for health checks, which are no requests.
    pub metrics: Option<Requests>,
    /// None: there is none.
    pub breaker: Option<Arc<Gate>>,
    pub limits: Arc<Limits>,
    /// None: connections are in clear text.
    tls: Option<Arc<Encryption>>,
    /// Read by nobody on a request's way: for the operator, and to forget loads.
    clients: Mutex<Vec<Weak<client::Shared>>>,
}

/// Where endpoints come from.
enum Source {
    Address(Arc<endpoint::Shared>),
    Finder(Box<Finder>),
}

/// A client's lane of an endpoint that is gone, as long as something is under way there.
struct Draining {
    endpoint: Arc<endpoint::Shared>,
    lane: Weak<Lane>,
}

impl Upstream {
    /// Names are looked up by DNS as the system is set up, while [`Upstream::watch`] runs.
    ///
    /// # Errors
    /// If the configuration isn't sound: says what, and where.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::found_by(config, &Discovery::default())
    }

    /// The same where others are asked where its endpoints are.
    ///
    /// # Errors
    /// If the configuration isn't sound: says what, and where.
    pub fn found_by(config: Config, discovery: &Discovery) -> Result<Self, ConfigError> {
        config.validate()?;
        let tls = config.tls.as_ref().map(|tls| Encryption::new(tls, config.protocol)).transpose()?.map(Arc::new);
        let roster = Arc::default();
        let source = |(index, text): (usize, &String)| {
            let source = match Finder::new(&config.name, text, discovery) {
                Ok(Some(finder)) => Ok(Source::Finder(Box::new(finder))),
                Ok(None) => endpoint::Shared::new(&config.name, text)
                    .map(|one| Source::Address(Arc::new(one.on(&roster, &config)))),
                Err(error) => Err(error),
            };
            source.map_err(|error| ConfigError { path: format!("endpoints[{index}]"), ..error })
        };
        let sources = config.endpoints.iter().enumerate().map(source).collect::<Result<Vec<_>, _>>()?;
        let resolver = match &discovery.resolver {
            Some(resolver) => Arc::clone(resolver),
            None => Arc::new(Dns::new(config.name_servers.clone())),
        };
        let upstream = Self(Arc::new(Shared {
            host: config.host.as_ref().and_then(|host| host.parse().ok()),
            resolver,
            sources,
            endpoints: Mutex::default(),
            standing_back: Mutex::default(),
            draining: Mutex::default(),
            roster,
            changed: Notify::new(),
            metrics: Some(Requests::new(&config.name)),
            breaker: config.breaker.as_ref().map(|rules| Arc::new(Gate::new(&config.name, rules))),
            limits: Arc::new(Limits::new(&config.caps)),
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

    /// Every source of the configuration whose endpoints come and go, for the ops listener.
    pub fn sources(&self) -> Vec<discovery::Source> {
        self.0.finders().map(Finder::view).collect()
    }

    /// Every endpoint with its state and the reason for it, for the ops listener; those last that are gone and finish what
    /// they have.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let clients = self.0.clients();
        let in_flight = |endpoint: &Arc<endpoint::Shared>| {
            clients.iter().filter_map(|client| client.load(endpoint, |load| load.in_flight())).sum()
        };
        let (there, now) = (self.0.endpoints(), Instant::now());
        let there = there.iter().map(|endpoint| endpoint.view(in_flight(endpoint), now));
        there.chain(self.0.draining().iter().map(|(endpoint, in_flight)| endpoint.view(*in_flight, now))).collect()
    }

    /// Whether so few endpoints are fit that all are asked.
    pub fn is_in_panic(&self) -> bool {
        let (called, now) = (self.0.called(), Instant::now());
        let fit = called.iter().filter(|endpoint| !endpoint.fitness(now).is_out).count();
        choice::is_panic(fit, called.len())
    }

    /// How the breaker stands; None where there is none.
    pub fn breaker(&self) -> Option<breaker::BreakerState> {
        self.0.breaker.as_ref().map(|breaker| breaker.view(Instant::now()))
    }
}

impl Shared {
    /// What the sources give now.
    pub fn endpoints(&self) -> Arc<[Arc<endpoint::Shared>]> {
        Arc::clone(&self.endpoints.lock())
    }

    pub fn finders(&self) -> impl Iterator<Item = &Finder> {
        self.sources.iter().filter_map(|source| match source {
            Source::Finder(finder) => Some(&**finder),
            Source::Address(_) => None,
        })
    }

    fn clients(&self) -> Vec<Arc<client::Shared>> {
        self.clients.lock().iter().filter_map(Weak::upgrade).collect()
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
            let finder = match source {
                Source::Address(endpoint) => {
                    next.push(Arc::clone(endpoint));
                    continue;
                }
                Source::Finder(finder) => finder,
            };
            for found in finder.found() {
                let is_there = |known: &&Arc<endpoint::Shared>| known.address == found.address;
                let stands_there = |source: &Source| match source {
                    Source::Address(endpoint) => is_there(&endpoint),
                    Source::Finder(_) => false,
                };
                if next.iter().any(|known| is_there(&known)) || self.sources.iter().any(stands_there) {
                    continue;
                }
                match endpoints.iter().find(is_there) {
                    Some(known) => {
                        known.describe(&found.origin);
                        next.push(Arc::clone(known));
                    }
                    None => next.extend(self.found(&found, !endpoints.is_empty())),
                }
            }
        }
        let is_same =
            next.len() == endpoints.len() && next.iter().zip(endpoints.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            for gone in endpoints.iter().filter(|known| !next.iter().any(|next| Arc::ptr_eq(next, known))) {
                tracing::info!(
                    upstream = self.config.name,
                    endpoint = gone.address,
                    "endpoint is gone from its source"
                );
                gone.retire(self.config.drain);
            }
            *endpoints = next.into();
        }
        let stands_back = standing_back(&endpoints);
        let is_same = is_same && *self.standing_back.lock() == stands_back;
        if is_same {
            return;
        }
        *self.standing_back.lock() = stands_back;
        self.roster.resize(endpoints.len());
        drop(endpoints);
        self.changed.notify_waiters();
        // A client that has nothing to send would keep connections to those that are gone.
        for client in self.clients() {
            client.renew();
        }
    }

    /// Looks whether the endpoints that stand back are needed, or others can.
    pub fn reconsider(&self) {
        let stands_back = standing_back(&self.endpoints());
        if *self.standing_back.lock() != stands_back {
            tracing::info!(upstream = self.config.name, ?stands_back, "other endpoints stand back");
            self.renew();
        }
    }

    /// A client's lane gets no new requests. Where its endpoint is gone, operators see it until it has finished.
    pub fn drain(&self, lane: &Arc<Lane>) {
        if !lane.endpoint.is_gone() {
            return;
        }
        let mut draining = self.draining.lock();
        draining.retain(|draining| draining.lane.strong_count() > 0);
        draining.push(Draining { endpoint: Arc::clone(&lane.endpoint), lane: Arc::downgrade(lane) });
    }

    /// The endpoints that are gone and have requests under way, with how many.
    fn draining(&self) -> Vec<(Arc<endpoint::Shared>, usize)> {
        let mut all: Vec<(Arc<endpoint::Shared>, usize)> = Vec::new();
        let mut draining = self.draining.lock();
        draining.retain(|draining| draining.lane.strong_count() > 0);
        for Draining { endpoint, lane } in draining.iter() {
            let in_flight = lane.upgrade().map_or(0, |lane| lane.load.in_flight());
            match all.iter_mut().find(|(other, _)| Arc::ptr_eq(other, endpoint)) {
                Some((_, sum)) => *sum += in_flight,
                None => all.push((Arc::clone(endpoint), in_flight)),
            }
        }
        all.retain(|(_, in_flight)| *in_flight > 0);
        all
    }

    /// `joins`: there are others already.
    fn found(&self, found: &Found, joins: bool) -> Option<Arc<endpoint::Shared>> {
        let (upstream, address, source) = (&self.config.name, &found.address, &found.origin.source);
        match endpoint::Shared::found(upstream, found) {
            Ok(endpoint) => {
                tracing::info!(upstream, endpoint = address, ?source, "endpoint is found");
                let endpoint = endpoint.on(&self.roster, &self.config);
                if joins {
                    endpoint.join(Instant::now());
                }
                Some(Arc::new(endpoint))
            }
            Err(error) => {
                tracing::warn!(upstream, address, ?source, %error, "address is left out");
                None
            }
        }
    }

    /// Lanes for one client. One that it has already, with its connections, stays.
    pub fn lanes(&self, known: &[Arc<Lane>], share: Option<&Arc<Share>>) -> Vec<Arc<Lane>> {
        let connector = |endpoint: &Arc<endpoint::Shared>| Connector {
            endpoint: Arc::clone(endpoint),
            limits: Arc::clone(&self.limits),
            timeout: self.config.connect_timeout,
            tls: self.tls.clone(),
        };
        let lane = |endpoint: &Arc<endpoint::Shared>| {
            let kept = known.iter().find(|lane| Arc::ptr_eq(&lane.endpoint, endpoint)).cloned();
            kept.unwrap_or_else(|| Lane::new(connector(endpoint), self.config.protocol, share.cloned()))
        };
        self.called().iter().map(lane).collect()
    }

    /// The endpoints that don't stand back.
    fn called(&self) -> Vec<Arc<endpoint::Shared>> {
        let standing_back = self.standing_back.lock().clone();
        let endpoints = self.endpoints();
        endpoints.iter().filter(|endpoint| !standing_back.contains(&endpoint.address)).cloned().collect()
    }

    /// The same service with only one of its endpoints and no second try, for its health checks. Its limits are its own: a
    /// check takes nobody's place, and an upstream that is full is not ill.
    pub fn alone(&self, endpoint: &Arc<endpoint::Shared>) -> Arc<Self> {
        Arc::new(Self {
            config: Config { retry: Retry { attempts: 0, ..Retry::default() }, hedge: None, ..self.config.clone() },
            host: self.host.clone(),
            resolver: Arc::clone(&self.resolver),
            sources: vec![Source::Address(Arc::clone(endpoint))],
            endpoints: Mutex::new([Arc::clone(endpoint)].into()),
            standing_back: Mutex::default(),
            draining: Mutex::default(),
            roster: Arc::default(),
            changed: Notify::new(),
            metrics: None,
            breaker: None,
            limits: Arc::default(),
            tls: self.tls.clone(),
            clients: Mutex::default(),
        })
    }

    /// What the breaker has yet to be told by all clients.
    pub fn tallies(&self, visit: &mut dyn FnMut(&Tally)) {
        self.clients().iter().for_each(|client| visit(&client.tally));
    }

    /// An endpoint is found well again: what is refused because all failed may be tried.
    pub fn heal(&self) {
        if let Some(breaker) = &self.breaker {
            breaker.heal(Instant::now());
        }
    }

    pub fn error(&self, kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, upstream: self.config.name.clone(), detail: detail.into() }
    }
}

/// Those that aren't of the lowest priority of their source that has a fit endpoint; where none has, of the lowest.
fn standing_back(endpoints: &[Arc<endpoint::Shared>]) -> BTreeSet<String> {
    let origins: Vec<_> = endpoints.iter().map(|endpoint| (endpoint, endpoint.origin())).collect();
    if origins.iter().all(|(_, origin)| origin.priority == 0) {
        return BTreeSet::new();
    }
    let now = Instant::now();
    let serves = |source: &Option<Arc<str>>| {
        let of_source = || origins.iter().filter(move |(_, origin)| origin.source == *source);
        let fit = of_source().filter(|(endpoint, _)| !endpoint.fitness(now).is_out);
        fit.map(|(_, origin)| origin.priority).min().or(of_source().map(|(_, origin)| origin.priority).min())
    };
    let stands_back = origins.iter().filter(|(_, origin)| serves(&origin.source) != Some(origin.priority));
    stands_back.map(|(endpoint, _)| endpoint.address.clone()).collect()
}
