//! The data plane: a thread with a single-threaded runtime for each core, each with its own listeners (SO_REUSEPORT), its
//! own pipeline and its own connections to upstreams. On a request's way cores share only what must be shared.

mod activity;
mod admission;
mod bind;
mod connection;
mod handler;
mod http1;
mod http2;
mod known;
mod open;
mod proxy_protocol;
mod runtime;
mod stream;
mod watchdog;

pub use admission::Admission;
pub use bind::{Bound, bind};
pub use known::Connections;
pub use runtime::{Core, run};

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    access_log, analytics::Analytics, auth::Authority, cache::Store, idempotency::Records, overload::Overload,
    shared::Redis, snapshot::Snapshot,
};

/// What all cores share.
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// That of the snapshot: one load tells a core whether it must look.
    generation: AtomicU64,
    changes: watch::Sender<()>,
    beyond: Beyond,
}

/// What outlives every snapshot.
pub struct Beyond {
    pub authority: Arc<Authority>,
    /// What came of requests with an Idempotency-Key.
    pub records: Arc<Records>,
    /// What is kept of answers.
    pub cache: Arc<Store>,
    /// What gateways share, if they do.
    pub redis: Option<Arc<Redis>>,
    /// How much there is too much.
    pub overload: Arc<Overload>,
    /// The connections of each client address.
    pub admission: Arc<Admission>,
    pub access_log: access_log::Writer,
    pub analytics: Arc<Analytics>,
    pub connections: Connections,
    pub cores: usize,
}

impl std::ops::Deref for Shared {
    type Target = Beyond;

    fn deref(&self) -> &Beyond {
        &self.beyond
    }
}

impl Shared {
    pub fn new(snapshot: Snapshot, beyond: Beyond) -> Self {
        let generation = AtomicU64::new(snapshot.generation);
        Self { snapshot: ArcSwap::from_pointee(snapshot), generation, changes: watch::Sender::new(()), beyond }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Swaps the whole configuration. Cores take it up at once, or with their next request if that comes first.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
        self.changes.send_replace(());
    }

    /// Changes whenever the configuration has been swapped.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
