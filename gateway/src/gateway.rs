//! The gateway as a role: built, then run.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::SystemTime,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use lifecycle::{OpsIndex, Readiness, Role, Shutdown};
use principal::{RootSecret, Signer};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    access_log,
    analytics::Analytics,
    auth::{Authority, revocation, session::Sessions},
    cache::{Store, purging},
    compile::{self, Sources, compile},
    config::{self, Config, ConfigError, Places, Properties},
    explain::{self, Explanation, Probe},
    following::Way,
    idempotency::Records,
    openapi, ops,
    overload::{Gauges, Overload},
    reload::{Loader, Reloader, adopt},
    server::{self, Beyond, Bound, Connections, Core, Shared},
    shared::Redis,
    snapshot::Snapshot,
};

/// The name the gateway signs principal tokens with.
const ISSUER: &str = "gateway";

/// What a gateway is made from.
pub struct Options {
    pub source: ConfigSource,
    /// Descriptor sets that `descriptors:` can name; any other name is a file.
    pub descriptors: BTreeMap<String, Bytes>,
    pub root: RootSecret,
    /// The bus that revocations come by, where it is in this process; None: the one in the Redis of the configuration.
    pub bus: Option<bus::Bus>,
    /// How many cores it uses; None: all.
    pub cores: Option<usize>,
}

/// Where the configuration is.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// Fixed for the life of the process.
    Text { text: String, properties: Properties },
    /// Read again whenever it changes.
    File { path: PathBuf, properties: Properties },
}

impl ConfigSource {
    pub fn properties(&self) -> &Properties {
        match self {
            Self::Text { properties, .. } | Self::File { properties, .. } => properties,
        }
    }
}

/// Checks a configuration without running it. Returns what is no mistake but good to know: hidden routes. `folder` is where
/// relative paths begin.
///
/// # Errors
/// Everything that is wrong, each with its path.
pub fn check(
    text: &str,
    properties: &Properties,
    folder: Option<&Path>,
    descriptors: &BTreeMap<String, Bytes>,
) -> Result<Vec<String>, Vec<ConfigError>> {
    compiled(text, properties, folder, descriptors).map(|snapshot| snapshot.notes).map_err(|errors| {
        let places = Places::of(text, properties);
        errors.into_iter().map(|error| error.located(&places)).collect()
    })
}

/// Explains what a gateway with this configuration would do with a request: what [`Explanation`] says is what it would do.
///
/// # Errors
/// Everything that is wrong with the configuration, each with its path.
pub fn explain(
    text: &str,
    properties: &Properties,
    folder: Option<&Path>,
    descriptors: &BTreeMap<String, Bytes>,
    probe: &Probe,
) -> Result<Explanation, Vec<ConfigError>> {
    compiled(text, properties, folder, descriptors).map(|snapshot| explain::explain(&snapshot, probe))
}

/// The OpenAPI document of a configuration: the one that a gateway with it serves, or would if it served one.
///
/// # Errors
/// Everything that is wrong with the configuration, each with its path.
pub fn describe(
    text: &str,
    properties: &Properties,
    folder: Option<&Path>,
    descriptors: &BTreeMap<String, Bytes>,
) -> Result<openapi::Node, Vec<ConfigError>> {
    let snapshot = compiled(text, properties, folder, descriptors)?;
    let section = Config::parse(text, properties)?.openapi.unwrap_or_default();
    compile::describe(&snapshot, &section)
}

fn compiled(
    text: &str,
    properties: &Properties,
    folder: Option<&Path>,
    descriptors: &BTreeMap<String, Bytes>,
) -> Result<Snapshot, Vec<ConfigError>> {
    let config = Config::parse(text, properties)?;
    let sources = Sources {
        descriptors,
        live: &Arc::default(),
        folder: folder.unwrap_or(Path::new("")),
        sessions: &Arc::new(Sessions::default()),
        redis: None,
        previous: None,
    };
    compile(&config, &sources)
}

/// Builds a gateway: reads its configuration and binds its listeners.
///
/// # Errors
/// If the configuration is not good, the key file can't be read, or a port is taken.
pub async fn build(options: Options) -> anyhow::Result<Gateway> {
    build_with(options, Gauges::default()).await
}

/// The same where memory and delays are told by other gauges than the system's.
///
/// # Errors
/// As [`build`].
pub async fn build_with(options: Options, gauges: Gauges) -> anyhow::Result<Gateway> {
    let cores = match options.cores {
        Some(cores) => cores.max(1),
        None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let (_, config) = options.source.read().map_err(not_good)?;
    let folder = options.source.folder();
    let address = |place: &str, redis: &config::Redis| {
        redis.address(&folder).map_err(|message| not_good(vec![ConfigError::new(place, message)]))
    };
    let shared = address("shared.redis", &config.shared.redis)?;
    let redis = match shared.clone() {
        Some(address) => Some(Redis::open(address, &config.shared).await),
        None => None,
    };
    let sessions = Arc::new(Sessions::new(redis.clone()));
    let revocations = revocation::begin(&config, &folder, options.bus.clone(), &sessions).await.map_err(not_good)?;
    let loader = Loader {
        source: options.source,
        descriptors: options.descriptors,
        live: Arc::default(),
        sessions: Arc::clone(&sessions),
        redis: redis.clone(),
    };
    let loaded = loader.load(None, false).map_err(not_good)?;
    let snapshot = &loaded.snapshot;
    let cache = Arc::new(Store::new((&snapshot.cache).into()));
    let purging = CancellationToken::new();
    let way = Way::of(address("cache.redis", &snapshot.cache.redis)?, options.bus, shared);
    purging::begin(&snapshot.cache, way, &cache, &purging).map_err(not_good)?;
    let mut listeners = Vec::new();
    for listener in &snapshot.listeners {
        listeners.push(server::bind(listener.address, cores)?);
    }
    for note in &snapshot.notes {
        tracing::info!("{note}");
    }
    let signer = Signer::new(ISSUER, &options.root);
    let overload = Arc::new(Overload::new(cores, gauges));
    let access_log = access_log::Writer::start().context("access log")?;
    let analytics = Arc::new(Analytics::new(SystemTime::now()));
    let reloader = Reloader::new(loader, loaded, |snapshot, keys| {
        let authority = Arc::new(Authority { signer, keys: ArcSwap::from_pointee(keys), sessions, revocations });
        let records = Arc::new(Records::new(redis.clone()));
        Shared::new(
            snapshot,
            Beyond {
                authority,
                records,
                cache,
                redis,
                access_log,
                analytics,
                overload,
                admission: Arc::default(),
                connections: Connections::default(),
                cores,
            },
        )
    });
    let _purging = purging.drop_guard();
    Ok(Gateway { reloader: Arc::new(reloader), listeners, readiness: Readiness::default(), _purging })
}

fn not_good(errors: Vec<ConfigError>) -> anyhow::Error {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration of the gateway is not good:\n{}", errors.join("\n"))
}

/// A gateway, built and bound.
pub struct Gateway {
    reloader: Arc<Reloader>,
    listeners: Vec<Bound>,
    readiness: Readiness,
    /// Purges are followed as long as this lives.
    _purging: DropGuard,
}

impl Gateway {
    /// Every listener's address, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }
}

#[async_trait]
impl Role for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listeners.first().map(|listener| listener.address)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn ops(&self) -> axum::Router {
        ops::router(&self.reloader)
    }

    fn ops_index(&self) -> OpsIndex {
        ops::index()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { reloader, listeners, readiness, _purging } = *self;
        let shared = &reloader.shared;
        adopt(&shared.snapshot(), None, &shared.authority.sessions);
        let cores = start(shared, listeners, &shutdown)?;
        reloader.hold_back(&readiness);
        readiness.ready("role");
        let left = CancellationToken::new();
        let attending = shared.redis.clone().map(|redis| {
            let left = left.clone();
            // It stays on the roll while it drains: it still lets requests pass.
            tokio::spawn(async move { redis.attend(&left).await })
        });
        let watched = Arc::clone(shared);
        let stop = left.clone();
        tokio::spawn(async move {
            watched.overload.watch(|| watched.snapshot().edge.overload.clone(), &stop).await;
        });
        let (analytics, stop) = (Arc::clone(&shared.analytics), left.clone());
        tokio::spawn(async move { analytics.run(&stop).await });
        let (asking, stop) = (Arc::clone(&reloader), left.clone());
        tokio::spawn(async move { asking.ask(&stop).await });
        let (awaiting, ready, stop) = (Arc::clone(&reloader), readiness.clone(), left.clone());
        tokio::spawn(async move { awaiting.await_descriptors(&ready, &stop).await });
        let leaving = async {
            shutdown.leaving().cancelled().await;
            readiness.not_ready("role", "leaving: everything is still served, but somebody else should be asked");
            shutdown.draining().cancelled().await;
        };
        tokio::select! {
            () = reloader.run(shutdown.draining()) => {}
            () = leaving => {}
        }
        readiness.not_ready("role", "draining");
        let mut result = Ok(());
        for core in cores {
            result = core.await.context("a core of the gateway panicked").and_then(|end| end).and(result);
        }
        left.cancel();
        if let Some(attending) = attending {
            attending.await?;
        }
        result
    }
}

type End = oneshot::Receiver<anyhow::Result<()>>;

/// Starts a thread for each core.
fn start(shared: &Arc<Shared>, listeners: Vec<Bound>, shutdown: &Shutdown) -> anyhow::Result<Vec<End>> {
    let mut sockets: Vec<Vec<_>> = (0..shared.cores).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (core, socket) in sockets.iter_mut().zip(listener.sockets) {
            core.push((listener.address, socket, Arc::clone(&listener.open)));
        }
    }
    let spawn = |(number, sockets)| {
        let core = Core { number, shared: Arc::clone(shared), sockets, shutdown: shutdown.clone() };
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name(format!("gateway-{number}")).spawn(move || {
            // Nobody waits any more where the receiver is gone.
            _ = ended.send(server::run(core));
        })?;
        Ok(end)
    };
    sockets.into_iter().enumerate().map(spawn).collect()
}
