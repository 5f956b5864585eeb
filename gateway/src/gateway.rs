//! The gateway as a role: built, then run.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use lifecycle::{Readiness, Role, Shutdown};
use principal::{RootSecret, Signer};
use tokio::sync::oneshot;

use crate::{
    access_log::AccessLog,
    auth::{Authority, session::Sessions},
    compile::{Sources, compile},
    config::{Config, ConfigError, Properties},
    ops,
    reload::{Loader, Reloader, adopt},
    server::{self, Bound, Core, Shared},
};

/// The name the gateway signs principal tokens with.
const ISSUER: &str = "gateway";

/// What a gateway is made from.
pub struct Options {
    pub source: ConfigSource,
    /// Descriptor sets that `descriptors:` can name; any other name is a file.
    pub descriptors: BTreeMap<String, Bytes>,
    pub root: RootSecret,
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
    pub(crate) fn properties(&self) -> &Properties {
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
    let config = Config::parse(text, properties)?;
    let sources = Sources {
        descriptors,
        folder: folder.unwrap_or(Path::new("")),
        sessions: &Arc::new(Sessions::default()),
        previous: None,
    };
    compile(&config, &sources).map(|snapshot| snapshot.notes)
}

/// Builds a gateway: reads its configuration and binds its listeners.
///
/// # Errors
/// If the configuration is not good, the key file can't be read, or a port is taken.
pub async fn build(options: Options) -> anyhow::Result<Gateway> {
    let cores = match options.cores {
        Some(cores) => cores.max(1),
        None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let sessions = Arc::new(Sessions::default());
    let loader = Loader { source: options.source, descriptors: options.descriptors, sessions: Arc::clone(&sessions) };
    let loaded = loader.load(None).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the configuration of the gateway is not good:\n{}", errors.join("\n"))
    })?;
    let snapshot = &loaded.snapshot;
    let mut listeners = Vec::new();
    for listener in &snapshot.listeners {
        listeners.push(server::bind(listener.address, cores)?);
    }
    for note in &snapshot.notes {
        tracing::info!("{note}");
    }
    let signer = Signer::new(ISSUER, &options.root);
    let access_log = AccessLog::start().context("access log")?;
    let reloader = Reloader::new(loader, loaded, |snapshot, keys| {
        let authority = Arc::new(Authority { signer, keys: ArcSwap::from_pointee(keys), sessions });
        Shared::new(snapshot, authority, access_log, cores)
    });
    Ok(Gateway { reloader: Arc::new(reloader), listeners, readiness: Readiness::default() })
}

/// A gateway, built and bound.
pub struct Gateway {
    reloader: Arc<Reloader>,
    listeners: Vec<Bound>,
    readiness: Readiness,
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

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { reloader, listeners, readiness } = *self;
        let shared = &reloader.shared;
        adopt(&shared.snapshot(), None, &shared.authority.sessions);
        let cores = start(shared, listeners, &shutdown)?;
        readiness.ready("role");
        tokio::select! {
            () = reloader.run(shutdown.draining()) => {}
            () = shutdown.draining().cancelled() => {}
        }
        readiness.not_ready("role", "draining");
        let mut result = Ok(());
        for core in cores {
            result = core.await.context("a core of the gateway panicked").and_then(|end| end).and(result);
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
        let core = Core { shared: Arc::clone(shared), sockets, shutdown: shutdown.clone() };
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name(format!("gateway-{number}")).spawn(move || {
            // Nobody waits any more where the receiver is gone.
            _ = ended.send(server::run(core));
        })?;
        Ok(end)
    };
    sockets.into_iter().enumerate().map(spawn).collect()
}
