//! Reading the configuration, and reading it again: when its file or the key file changes, and on SIGHUP. What doesn't
//! compile changes nothing, and says why.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ConfigSource,
    auth::{ring::KeyRing, session::Sessions},
    compile::{Sources, compile},
    config::{Config, ConfigError},
    metrics::METRICS,
    server::Shared,
    shared::Redis,
    snapshot::Snapshot,
};

/// Editors and deployments write files in several steps; the last one is waited for.
const SETTLE: Duration = Duration::from_millis(200);

/// Where the configuration comes from.
pub struct Loader {
    pub source: ConfigSource,
    pub descriptors: BTreeMap<String, Bytes>,
    pub sessions: Arc<Sessions>,
    pub redis: Option<Arc<Redis>>,
}

/// How the last attempt to read the configuration went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub ok: bool,
    pub errors: Vec<String>,
}

/// What was read, and what came of it.
pub struct Loaded {
    pub snapshot: Snapshot,
    pub keys: KeyRing,
    contents: Contents,
}

/// The files as they were read; None for one that could not be.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    config: Option<String>,
    keys: Option<String>,
}

impl Loader {
    /// Reads everything. A key file that was never there holds no keys yet; one that has gone is a fault.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, previous: Option<&Snapshot>, had_keys: bool) -> Result<Loaded, Vec<ConfigError>> {
        let (text, config) = self.source.read()?;
        let folder = self.folder();
        let sources = Sources {
            descriptors: &self.descriptors,
            folder: &folder,
            sessions: &self.sessions,
            redis: self.redis.as_ref(),
            previous,
        };
        let snapshot = compile(&config, &sources)?;
        if previous.is_some_and(|previous| previous.listeners != snapshot.listeners) {
            return Err(vec![ConfigError::new("listeners", "can't change while the gateway runs")]);
        }
        if previous.is_some_and(|previous| previous.shared != snapshot.shared) {
            return Err(vec![ConfigError::new("shared", "can't change while the gateway runs")]);
        }
        let place = "authentication.api_keys.file";
        let fault = |error: anyhow::Error| vec![ConfigError::new(place, format!("{error:#}"))];
        let keys = match self.key_file(&snapshot) {
            Some(file) if !had_keys && !file.exists() => {
                tracing::warn!(file = %file.display(), "no API keys yet: `turnpike key new` makes the file");
                None
            }
            Some(file) => Some(read(&file).map_err(fault)?),
            None => None,
        };
        let ring = keys.as_deref().map(KeyRing::parse).transpose().map_err(fault)?.unwrap_or_default();
        Ok(Loaded { snapshot, keys: ring, contents: Contents { config: Some(text), keys } })
    }

    /// The files as they are now.
    fn contents(&self, snapshot: &Snapshot) -> Contents {
        let config = match &self.source {
            ConfigSource::Text { text, .. } => Some(text.clone()),
            ConfigSource::File { path, .. } => read(path).ok(),
        };
        Contents { config, keys: self.key_file(snapshot).and_then(|file| read(&file).ok()) }
    }

    fn key_file(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        snapshot.authentication.api_keys.as_ref().map(|section| self.folder().join(&section.file))
    }

    /// Where relative paths begin: beside the file.
    fn folder(&self) -> PathBuf {
        match &self.source {
            ConfigSource::File { path, .. } => path.parent().map(Path::to_path_buf).unwrap_or_default(),
            ConfigSource::Text { .. } => PathBuf::new(),
        }
    }

    /// Files that may change.
    fn files(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let config = match &self.source {
            ConfigSource::File { path, .. } => Some(path.clone()),
            ConfigSource::Text { .. } => None,
        };
        config.into_iter().chain(self.key_file(snapshot)).collect()
    }
}

impl ConfigSource {
    /// The configuration, as text and parsed.
    ///
    /// # Errors
    /// If it can't be read or doesn't parse.
    pub fn read(&self) -> Result<(String, Config), Vec<ConfigError>> {
        let (text, properties) = match self {
            Self::Text { text, properties } => (text.clone(), properties),
            Self::File { path, properties } => {
                let text = read(path).map_err(|error| vec![ConfigError::new("", format!("{error:#}"))])?;
                (text, properties)
            }
        };
        let config = Config::parse(&text, properties)?;
        Ok((text, config))
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// Takes changes over into the running gateway.
pub struct Reloader {
    pub shared: Arc<Shared>,
    loader: Loader,
    status: Mutex<Status>,
    /// What was last read, good or not.
    seen: Mutex<Contents>,
}

impl Reloader {
    /// Sets the first configuration going.
    pub fn new(loader: Loader, loaded: Loaded, start: impl FnOnce(Snapshot, KeyRing) -> Shared) -> Self {
        let Loaded { snapshot, keys, contents } = loaded;
        let status = Status { at: OffsetDateTime::now_utc(), ok: true, errors: Vec::new() };
        let shared = Arc::new(start(snapshot, keys));
        Self { shared, loader, status: Mutex::new(status), seen: Mutex::new(contents) }
    }

    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Waits for changes until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut hangup = signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "no SIGHUP")).ok();
        let (mut files, mut _watcher) = (Vec::new(), None);
        loop {
            let named = self.loader.files(&self.shared.snapshot());
            if named != files {
                _watcher = watch(&named, &changed);
                files = named;
                // What changed before it was watched.
                self.reload_if_changed();
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => {
                    sleep(SETTLE).await;
                    self.reload_if_changed();
                }
                () = hung_up(&mut hangup) => self.reload(),
            }
        }
    }

    fn reload_if_changed(&self) {
        if self.loader.contents(&self.shared.snapshot()) != *self.seen.lock() {
            self.reload();
        }
    }

    /// Reads everything again and takes it over if it is good.
    pub fn reload(&self) {
        let previous = self.shared.snapshot();
        // Before it is read: what changes meanwhile is seen as another change.
        *self.seen.lock() = self.loader.contents(&previous);
        let had_keys = self.shared.authority.keys.load().len() > 0;
        let errors = match self.loader.load(Some(&previous), had_keys) {
            Ok(loaded) => {
                self.take_over(loaded, &previous);
                Vec::new()
            }
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let (generation, ok) = (self.shared.generation(), errors.is_empty());
        METRICS.reloaded(ok);
        if ok {
            tracing::info!(generation, "configuration taken over");
        } else {
            tracing::error!(generation, ?errors, "the configuration is not good: the last one stays");
        }
        *self.status.lock() = Status { at: OffsetDateTime::now_utc(), ok, errors };
    }

    fn take_over(&self, loaded: Loaded, previous: &Snapshot) {
        let Loaded { snapshot, keys, contents } = loaded;
        let snapshot = Arc::new(snapshot);
        adopt(&snapshot, Some(previous), &self.loader.sessions);
        self.shared.authority.keys.store(Arc::new(keys));
        self.shared.replace(snapshot);
        *self.seen.lock() = contents;
    }
}

/// Watches folders, not files: a file that is replaced by another would be lost.
fn watch(files: &[PathBuf], changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let notify = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            notify.notify_one();
        }
    })
    .inspect_err(|error| tracing::warn!(%error, "files are not watched: send SIGHUP instead"))
    .ok()?;
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "not watched: send SIGHUP instead");
        }
    }
    Some(watcher)
}

/// What a snapshot sets going: looking after the endpoints of upstreams that are new, and how long sessions live.
pub fn adopt(snapshot: &Snapshot, previous: Option<&Snapshot>, sessions: &Sessions) {
    if let Some(section) = &snapshot.authentication.session {
        sessions.set_lifetime(section.lifetime());
    }
    for running in &snapshot.upstreams {
        if previous.is_none_or(|previous| !previous.upstreams.iter().any(|other| Arc::ptr_eq(other, running))) {
            let (upstream, stop) = (running.upstream.clone(), running.stop.clone());
            tokio::spawn(async move { upstream.watch(stop).await });
        }
    }
}

async fn hung_up(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}
