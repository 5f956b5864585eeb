//! Reading the configuration, and reading it again: when one of its files changes, on SIGHUP, and on `POST /reload` of the
//! ops listener. What doesn't compile changes nothing, and says why.

mod asking;
mod loader;
mod watch;
mod written;

pub use loader::{Loaded, Loader};

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::loader::Contents;
use crate::{
    auth::{ring::KeyRing, session::Sessions},
    descriptors::Live,
    metrics::METRICS,
    server::Shared,
    snapshot::Snapshot,
};

/// Editors and deployments write files in several steps; the last one is waited for.
const SETTLE: Duration = Duration::from_millis(200);

/// How the last attempt to read the configuration went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub trigger: Trigger,
    pub ok: bool,
    pub errors: Vec<String>,
    /// What was different from the one before; empty if it was not taken over.
    pub changed: Vec<String>,
}

/// What had the configuration read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Start,
    FileChanged,
    Signal,
    /// `POST /reload`.
    Request,
    /// A service told of other descriptors than before.
    Descriptors,
}

/// Takes changes over into the running gateway.
pub struct Reloader {
    pub shared: Arc<Shared>,
    loader: Loader,
    state: Mutex<State>,
    /// Held from the reading of files to the taking over: one reload at a time.
    turn: Mutex<()>,
}

struct State {
    status: Status,
    /// What was last read, good or not.
    seen: Contents,
    written: Value,
    /// Snapshots that somebody may still use.
    alive: Vec<Weak<Snapshot>>,
}

impl Reloader {
    /// Sets the first configuration going.
    pub fn new(loader: Loader, loaded: Loaded, start: impl FnOnce(Snapshot, KeyRing) -> Shared) -> Self {
        let Loaded { snapshot, keys, written } = loaded;
        let (at, trigger) = (OffsetDateTime::now_utc(), Trigger::Start);
        let status = Status { at, trigger, ok: true, errors: Vec::new(), changed: Vec::new() };
        let seen = loader.contents(&snapshot);
        let shared = Arc::new(start(snapshot, keys));
        METRICS.generation(shared.generation());
        log_to(&shared, &shared.snapshot());
        let alive = vec![Arc::downgrade(&shared.snapshot())];
        Self { shared, loader, state: Mutex::new(State { status, seen, written, alive }), turn: Mutex::new(()) }
    }

    /// What is known of services that are asked for their descriptors.
    pub fn live(&self) -> &Live {
        &self.loader.live
    }

    pub fn status(&self) -> Status {
        self.state.lock().status.clone()
    }

    /// The configuration in force, as it was written, without its secrets.
    pub fn written(&self) -> Value {
        self.state.lock().written.clone()
    }

    /// How many snapshots are not dropped yet: one, and those that a core or a request still has.
    pub fn snapshots(&self) -> usize {
        self.state.lock().alive.iter().filter(|snapshot| snapshot.strong_count() > 0).count()
    }

    /// The files that are read again when they change.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.loader.files(&self.shared.snapshot())
    }

    /// Waits for changes until `stop`.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut hangup = signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "no SIGHUP")).ok();
        let (mut files, mut _watcher) = (Vec::new(), None);
        loop {
            let named = self.files();
            if named != files {
                _watcher = watch::watch(&named, &changed);
                files = named;
                // What changed before it was watched.
                self.reload_if_changed().await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => {
                    sleep(SETTLE).await;
                    self.reload_if_changed().await;
                }
                () = hung_up(&mut hangup) => {
                    self.shared.access_log.reopen();
                    self.reload(Trigger::Signal).await;
                }
            }
        }
    }

    async fn reload_if_changed(self: &Arc<Self>) {
        let changed = self.loader.contents(&self.shared.snapshot()) != self.state.lock().seen;
        if changed {
            self.reload(Trigger::FileChanged).await;
        }
    }

    /// Reads everything again and takes it over if it is good. The answer tells of this attempt, with the generation in
    /// force after it.
    pub async fn reload(self: &Arc<Self>, trigger: Trigger) -> (u64, Status) {
        if matches!(trigger, Trigger::Signal | Trigger::Request) {
            self.loader.live.tell(None);
        }
        let own = Arc::clone(self);
        // Compiling thousands of routes takes a while: not on a thread that serves.
        match tokio::task::spawn_blocking(move || own.reload_now(trigger)).await {
            Ok(done) => done,
            // It panicked, or the process is going.
            Err(_) => (self.shared.generation(), self.status()),
        }
    }

    fn reload_now(&self, trigger: Trigger) -> (u64, Status) {
        let _turn = self.turn.lock();
        self.attempt(trigger)
    }

    /// The caller has its turn.
    fn attempt(&self, trigger: Trigger) -> (u64, Status) {
        let previous = self.shared.snapshot();
        // Before it is read: what changes meanwhile is seen as another change.
        let seen = self.loader.contents(&previous);
        self.state.lock().seen = seen;
        let had_keys = self.shared.authority.keys.load().len() > 0;
        let (errors, changed) = match self.loader.load(Some(&previous), had_keys) {
            Ok(loaded) => (Vec::new(), self.take_over(loaded, &previous)),
            Err(errors) => (errors.iter().map(ToString::to_string).collect(), Vec::new()),
        };
        let (generation, ok) = (self.shared.generation(), errors.is_empty());
        METRICS.reloaded(ok);
        METRICS.generation(generation);
        if ok {
            tracing::info!(generation, ?trigger, ?changed, "configuration taken over");
        } else {
            tracing::error!(generation, ?trigger, ?errors, "the configuration is not good: the last one stays");
        }
        let status = Status { at: OffsetDateTime::now_utc(), trigger, ok, errors, changed };
        self.state.lock().status = status.clone();
        (generation, status)
    }

    fn take_over(&self, loaded: Loaded, previous: &Snapshot) -> Vec<String> {
        let Loaded { snapshot, keys, written } = loaded;
        let snapshot = Arc::new(snapshot);
        adopt(&snapshot, Some(previous), &self.loader.sessions);
        self.shared.cache.resize((&snapshot.cache).into());
        keys.inherit(&self.shared.authority.keys.load());
        self.shared.authority.keys.store(Arc::new(keys));
        self.shared.replace(Arc::clone(&snapshot));
        log_to(&self.shared, &snapshot);
        // It may name other files than the one before.
        let seen = self.loader.contents(&snapshot);
        let mut state = self.state.lock();
        state.seen.retain(|file, _| seen.contains_key(file));
        for (file, contents) in seen {
            state.seen.entry(file).or_insert(contents);
        }
        state.alive.retain(|snapshot| snapshot.strong_count() > 0);
        state.alive.push(Arc::downgrade(&snapshot));
        let changed = written::differences(&state.written, &written);
        state.written = written;
        changed
    }
}

fn log_to(shared: &Shared, snapshot: &Snapshot) {
    shared.access_log.retarget(snapshot.edge.access_log.as_ref().and_then(|section| section.file.clone()));
}

/// What a snapshot sets going: looking after the endpoints of upstreams and the keys of issuers that are new, and how long
/// sessions live.
pub fn adopt(snapshot: &Snapshot, previous: Option<&Snapshot>, sessions: &Sessions) {
    if let Some(section) = &snapshot.authentication.session {
        sessions.set_lifetime(section.lifetime());
    }
    snapshot.tokens.start(previous.map(|previous| &*previous.tokens));
    METRICS.certificates(snapshot.expiries());
    for running in &snapshot.upstreams {
        if previous.is_none_or(|previous| !previous.upstreams.iter().any(|other| Arc::ptr_eq(other, running))) {
            let (upstream, stop) = (running.upstream.clone(), running.stop.clone());
            tokio::spawn(async move { upstream.watch(stop).await });
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}
