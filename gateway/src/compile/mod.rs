//! From a configuration to a snapshot. Finds every mistake, not only the first, and says where each stands.

mod actions;
mod concurrency;
mod limiters;
mod openapi;
mod policy;
mod remarks;
mod routes;
mod services;
mod tls;
mod tokens;
mod upstreams;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    access_log,
    action::{self, document},
    auth::{certificate::Certificates, jwt::Tokens, session::Sessions},
    cache,
    config::{self, Config, ConfigError, Size},
    descriptors::{Descriptors, Directory, Live},
    layers::{compress, cors, security_headers},
    openapi::Fragment,
    route::{Route, Table},
    shared::Redis,
    snapshot::{Edge, Listed, Reflected, Running, Snapshot},
    tls::Terminator,
};
use concurrency::Concurrencies;
use limiters::Limiters;

pub use openapi::describe;

/// What a configuration refers to, and what it is compiled for.
pub struct Sources<'a> {
    /// Built-in files, by name: descriptor sets, and what services say of themselves.
    pub descriptors: &'a BTreeMap<String, Bytes>,
    /// What services have said of themselves.
    pub live: &'a Arc<Live>,
    /// Where relative paths begin.
    pub folder: &'a Path,
    pub sessions: &'a Arc<Sessions>,
    /// What gateways share, if they do.
    pub redis: Option<&'a Arc<Redis>>,
    /// The snapshot whose place it takes: what is unchanged goes on with its state.
    pub previous: Option<&'a Snapshot>,
}

/// Compiles a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(config: &Config, sources: &Sources<'_>) -> Result<Snapshot, Vec<ConfigError>> {
    let mut compiler = Compiler {
        config,
        sources,
        errors: Vec::new(),
        notes: Vec::new(),
        directory: Directory::default(),
        sets: HashMap::new(),
        reflected: Vec::new(),
        awaited: Vec::new(),
        descriptions: BTreeMap::new(),
        document: None,
        read: Vec::new(),
        upstreams: Vec::new(),
        limiters: Limiters::new(sources.previous, sources.redis),
        concurrency: Concurrencies::new(sources.previous),
        pending: Vec::new(),
        table: Table::default(),
        routes: Vec::new(),
    };
    compiler.listeners();
    compiler.limits();
    compiler.shared();
    compiler.caching();
    compiler.upstreams();
    let edge = compiler.edge();
    let tls = compiler.tls();
    let tokens = compiler.tokens();
    compiler.routes();
    compiler.finish(edge, tls, tokens)
}

struct Compiler<'a> {
    config: &'a Config,
    sources: &'a Sources<'a>,
    errors: Vec<ConfigError>,
    notes: Vec<String>,
    directory: Directory,
    /// Descriptor sets that were read, by the text that names them.
    sets: HashMap<&'a str, Option<Descriptors>>,
    reflected: Vec<Reflected>,
    awaited: Vec<(String, String)>,
    /// What services say of themselves that are passed through.
    descriptions: BTreeMap<String, Fragment>,
    /// Where the OpenAPI document will be, if it is served.
    document: Option<document::Pending>,
    /// Files that may change.
    read: Vec<PathBuf>,
    upstreams: Vec<Arc<Running>>,
    limiters: Limiters<'a>,
    concurrency: Concurrencies<'a>,
    /// Routes that the table is to be made of.
    pending: Vec<routes::Pending>,
    table: Table<Route>,
    routes: Vec<Listed>,
}

impl Compiler<'_> {
    fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let error = ConfigError::new(path, message);
        // What a service's section says holds for each of its methods: once is enough.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Takes over what an action found in its section.
    fn faults(&mut self, section: &str, errors: Vec<action::ConfigError>) {
        for error in errors {
            let separator = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
            self.fault(format!("{section}{separator}{}", error.path), error.message);
        }
    }

    fn listeners(&mut self) {
        if self.config.listeners.is_empty() {
            self.fault("listeners", "there must be at least one");
        }
        for (at, listener) in self.config.listeners.iter().enumerate() {
            let address = listener.address;
            if address.port() != 0 && self.config.listeners[..at].iter().any(|other| other.address == address) {
                self.fault(format!("listeners[{at}].address"), format!("{address} is there already"));
            }
        }
    }

    fn limits(&mut self) {
        let limits = &self.config.limits;
        for (name, zero) in [
            ("connections", limits.connections == 0),
            ("in_flight", limits.in_flight == 0),
            ("header_count", limits.header_count == 0),
            ("headers", limits.headers == Size(0)),
            ("header", limits.header == Size(0)),
            ("uri", limits.uri == Size(0)),
        ] {
            if zero {
                self.fault(format!("limits.{name}"), "must be above 0");
            }
        }
        // What the HTTP codec reads before anything of ours is asked.
        if limits.headers > Size::kib(256) {
            self.fault("limits.headers", "must be at most 256KiB");
        }
        if limits.header_count > 100 {
            self.fault("limits.header_count", "must be at most 100");
        }
        if limits.uri > Size::kib(63) {
            self.fault("limits.uri", "must be at most 63KiB");
        }
        for fault in limits.http2.faults() {
            self.fault(format!("limits.http2.{}", fault.path), fault.message);
        }
        for fault in limits.patience.faults() {
            self.fault(format!("limits.patience.{}", fault.path), fault.message);
        }
        if limits.header > limits.headers {
            self.fault("limits.header", "one header can't be larger than `headers`, all of them together");
        }
        for (name, message) in self.config.overload.faults() {
            self.fault(format!("overload.{name}"), message);
        }
        if self.config.timeout.is_zero() {
            self.fault("timeout", "must be above 0");
        }
        if let Some(session) = &self.config.authentication.session
            && (session.idle.is_zero() || session.idle > session.absolute)
        {
            self.fault("authentication.session.idle", "must be above 0 and not longer than `absolute`");
        }
        // Clients are told when it ends, as a date.
        if let Some(session) = &self.config.authentication.session
            && session.absolute > Duration::from_secs(8760 * 3600)
        {
            self.fault("authentication.session.absolute", "must be at most 8760h");
        }
    }

    fn shared(&mut self) {
        let section = &self.config.shared;
        self.redis("shared.redis", &section.redis);
        for (name, value) in [("timeout", section.timeout), ("limit_timeout", section.limit_timeout)] {
            if value.is_zero() {
                self.fault(format!("shared.{name}"), "must be above 0");
            }
        }
        if section.limit_timeout > section.timeout {
            self.fault("shared.limit_timeout", "must not be longer than `timeout`, which bounds every wait");
        }
    }

    fn redis(&mut self, place: &str, redis: &config::Redis) {
        if let Err(message) = redis.address(self.sources.folder) {
            self.fault(place, message);
        }
    }

    fn caching(&mut self) {
        let section = &self.config.cache;
        for (name, message) in section.faults() {
            self.fault(format!("cache.{name}"), message);
        }
        self.redis("cache.redis", &section.redis);
        self.errors.extend(cache::purging::check(section));
    }

    fn edge(&mut self) -> Option<Edge> {
        let cors = self.config.cors.as_ref().map(|section| cors::Config::new("cors", section)).transpose();
        let cors = cors.map_err(|errors| self.errors.extend(errors));
        let compression = compress::Config::new(&self.config.compression);
        let compression = compression.map_err(|errors| self.errors.extend(errors));
        let security_headers = security_headers::Config::new("security_headers", &[&self.config.security_headers]);
        let security_headers = security_headers.map_err(|errors| self.errors.extend(errors));
        self.errors.extend(self.config.access_log.on().into_iter().flat_map(access_log::Section::check));
        let named = self.config.routes.iter().flat_map(|route| {
            route.rate_limit.0.iter().chain(route.methods.values().flat_map(|method| &method.rate_limit.0))
        });
        let session = self.config.authentication.session.iter().flat_map(|session| &session.rate_limit.0);
        let named = named.chain(session).filter_map(|limit| limit.name.as_deref()).collect();
        let limiters = self.limiters.global(&self.config.rate_limit.0, &named, &mut self.errors);
        Some(Edge {
            cors: cors.ok()?.map(Arc::new),
            compression: compression.ok()?,
            security_headers: security_headers.ok()?,
            client_limits: limiters,
            limits: Arc::new(self.config.limits.clone()),
            proxies: Arc::new(self.config.trusted_proxies.clone()),
            addresses: Some(&self.config.addresses).filter(|lists| !lists.is_empty()).cloned().map(Arc::new),
            overload: self.config.overload.clone(),
            access_log: self.config.access_log.on().cloned(),
            analytics: self.config.analytics,
        })
    }

    fn finish(
        self,
        edge: Option<Edge>,
        tls: Vec<Option<Arc<Terminator>>>,
        tokens: Tokens,
    ) -> Result<Snapshot, Vec<ConfigError>> {
        let upstream_tls = self.config.upstreams.values().filter_map(|section| section.tls.as_ref());
        let upstream_files = upstream_tls.flat_map(|section| section.files()).map(|file| self.path(file)).collect();
        match edge {
            Some(edge) if self.errors.is_empty() => {
                let document = (self.config.openapi.as_ref(), self.document);
                let snapshot = Snapshot {
                    generation: self.sources.previous.map_or(1, |previous| previous.generation + 1),
                    listeners: self.config.listeners.clone(),
                    tls,
                    authentication: self.config.authentication.clone(),
                    tokens: Arc::new(tokens),
                    certificates: self
                        .config
                        .authentication
                        .mtls
                        .clone()
                        .map(|rules| Arc::new(Certificates::new(rules))),
                    shared: self.config.shared.clone(),
                    cache: self.config.cache.clone(),
                    table: self.table,
                    routes: self.routes,
                    upstreams: self.upstreams,
                    keys: self.config.upstreams.values().map(|section| section.balance.key().cloned()).collect(),
                    upstream_files,
                    limiters: self.limiters.done(),
                    concurrency: self.concurrency.done(),
                    reflected: self.reflected,
                    awaited: self.awaited,
                    read: self.read,
                    descriptions: self.descriptions,
                    edge,
                    notes: self.notes,
                };
                openapi::write(&snapshot, document)?;
                Ok(snapshot)
            }
            _ => Err(self.errors),
        }
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.sources.folder.join(path)
    }
}
