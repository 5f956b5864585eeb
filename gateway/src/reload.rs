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
    snapshot::Snapshot,
};

/// Editors and deployments write files in several steps; the last one is waited for.
const SETTLE: Duration = Duration::from_millis(200);

/// Where the configuration comes from.
pub struct Loader {
    pub source: ConfigSource,
    pub descriptors: BTreeMap<String, Bytes>,
    pub sessions: Arc<Sessions>,
}

/// How the last attempt to read the configuration went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub ok: bool,
    pub errors: Vec<String>,
}

impl Loader {
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn load(&self, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<ConfigError>> {
        let text = self.text().map_err(|error| vec![ConfigError::new("", format!("{error:#}"))])?;
        let config = Config::parse(&text, self.source.properties())?;
        let folder = self.folder();
        let sources = Sources { descriptors: &self.descriptors, folder: &folder, sessions: &self.sessions, previous };
        let snapshot = compile(&config, &sources)?;
        if let Some(previous) = previous
            && previous.listeners != snapshot.listeners
        {
            return Err(vec![ConfigError::new("listeners", "can't change while the gateway runs")]);
        }
        Ok(snapshot)
    }

    /// The API keys a snapshot asks for.
    ///
    /// # Errors
    /// If their file is missing or makes no sense.
    pub fn keys(&self, snapshot: &Snapshot) -> anyhow::Result<KeyRing> {
        match self.key_file(snapshot) {
            Some(file) => KeyRing::load(&file).context("authentication.api_keys.file"),
            None => Ok(KeyRing::default()),
        }
    }

    fn key_file(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        snapshot.authentication.api_keys.as_ref().map(|section| self.folder().join(&section.file))
    }

    fn text(&self) -> anyhow::Result<String> {
        match &self.source {
            ConfigSource::Text { text, .. } => Ok(text.clone()),
            ConfigSource::File { path, .. } => fs::read_to_string(path).with_context(|| path.display().to_string()),
        }
    }

    /// Where relative paths begin: beside the file.
    fn folder(&self) -> PathBuf {
        match &self.source {
            ConfigSource::File { path, .. } => path.parent().map(Path::to_path_buf).unwrap_or_default(),
            ConfigSource::Text { .. } => PathBuf::new(),
        }
    }

    /// Files that are read, beside the descriptors.
    fn files(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let config = match &self.source {
            ConfigSource::File { path, .. } => Some(path.clone()),
            ConfigSource::Text { .. } => None,
        };
        config.into_iter().chain(self.key_file(snapshot)).collect()
    }
}

/// Takes changes over into the running gateway.
pub struct Reloader {
    pub shared: Arc<Shared>,
    pub loader: Loader,
    pub status: Mutex<Status>,
}

impl Reloader {
    pub fn new(shared: Arc<Shared>, loader: Loader) -> Self {
        let status = Status { at: OffsetDateTime::now_utc(), ok: true, errors: Vec::new() };
        Self { shared, loader, status: Mutex::new(status) }
    }

    /// Waits for changes until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut hangup = signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "no SIGHUP")).ok();
        let mut seen = self.contents();
        loop {
            // Again each time: another file may be named now.
            let watcher = self.watch(&changed);
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => sleep(SETTLE).await,
                () = hung_up(&mut hangup) => seen.clear(),
            }
            drop(watcher);
            let contents = self.contents();
            if contents != seen {
                seen = contents;
                self.reload();
            }
        }
    }

    /// Reads everything again and takes it over if it is good.
    pub fn reload(&self) {
        let result = self.replace();
        METRICS.reloaded(result.is_ok());
        let errors: Vec<_> = result.err().unwrap_or_default().iter().map(ToString::to_string).collect();
        let generation = self.shared.generation();
        if errors.is_empty() {
            tracing::info!(generation, "configuration taken over");
        } else {
            tracing::error!(generation, ?errors, "the configuration is not good: the last one stays");
        }
        *self.status.lock() = Status { at: OffsetDateTime::now_utc(), ok: errors.is_empty(), errors };
    }

    fn replace(&self) -> Result<(), Vec<ConfigError>> {
        let previous = self.shared.snapshot();
        let snapshot = Arc::new(self.loader.load(Some(&previous))?);
        let keys = self.loader.keys(&snapshot).map_err(|error| vec![ConfigError::new("", format!("{error:#}"))])?;
        adopt(&snapshot, Some(&previous), &self.loader.sessions);
        self.shared.authority.keys.store(Arc::new(keys));
        self.shared.replace(snapshot);
        Ok(())
    }

    fn contents(&self) -> Vec<Option<Vec<u8>>> {
        self.loader.files(&self.shared.snapshot()).iter().map(|file| fs::read(file).ok()).collect()
    }

    /// Watches folders, not files: a file that is replaced by another would be lost.
    fn watch(&self, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
        let notify = Arc::clone(changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                notify.notify_one();
            }
        })
        .inspect_err(|error| tracing::warn!(%error, "files are not watched: send SIGHUP instead"))
        .ok()?;
        for file in self.loader.files(&self.shared.snapshot()) {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %folder.display(), "not watched: send SIGHUP instead");
            }
        }
        // What changed before the folders were watched.
        changed.notify_one();
        Some(watcher)
    }
}

/// What a snapshot sets going: health checks of upstreams that are new, and how long sessions live.
pub fn adopt(snapshot: &Snapshot, previous: Option<&Snapshot>, sessions: &Sessions) {
    if let Some(section) = &snapshot.authentication.session {
        sessions.set_lifetime(section.lifetime());
    }
    for running in &snapshot.upstreams {
        if previous.is_none_or(|previous| !previous.upstreams.iter().any(|other| Arc::ptr_eq(other, running))) {
            let (upstream, stop) = (running.upstream.clone(), running.stop.clone());
            tokio::spawn(async move { upstream.check_health(stop).await });
        }
    }
}

async fn hung_up(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}
