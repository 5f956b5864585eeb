//! Fan-out: one reader of the log a queue and node, whatever the number of clients; they read what it keeps in memory
//! ([`ring`]), and the log itself where they are behind that. Nobody is waited for, and nothing grows with a slow client.
//!
//! A queue is read from its first follower on, and until some time after the last one left.

mod ahead;
mod feed;
mod follower;
mod latest;
mod paced;
mod queues;
mod ring;
mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use bus::Bus;
use events::Name;
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use follower::{Begin, Followed, Follower, Manner, View};
pub(crate) use paced::Paced;
pub(crate) use ring::Event;

use self::{
    ahead::{Reader, Readers},
    queues::Queues,
    ring::Ring,
};
use crate::overload::Overload;

/// The readers of this node. Clones share them.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    bus: Bus,
    rings: Mutex<HashMap<Name, Arc<Ring>>>,
    /// At most so many rings.
    most: usize,
    queues: Mutex<Weak<Queues>>,
    readers: Readers,
    overload: Overload,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Hub {
    pub(crate) fn new(bus: Bus, most: usize, overload: Overload) -> Self {
        let (rings, queues) = (Mutex::default(), Mutex::default());
        let (readers, tasks, stop) = (Readers::default(), TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(Inner { bus, rings, most, queues, readers, overload, tasks, stop }))
    }

    /// Ends every reader when it is dropped, should nobody stop them in order.
    pub(crate) fn stop_on_drop(&self) -> DropGuard {
        self.0.stop.clone().drop_guard()
    }

    /// Ends every reader, and returns when they have let go of the bus.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// One more reads the log itself, while this is held.
    fn reader(&self) -> Reader {
        self.0.readers.begin()
    }

    /// Whether there is so much that views are told once a second at most.
    fn is_slow(&self) -> bool {
        self.0.overload.slows_views()
    }

    /// Ends when a client may read on in the log: later where there is too much.
    async fn replay(&self) {
        self.0.overload.replay().await;
    }

    /// What is kept of a queue, which is read from now on. A client may name queues that aren't there: there is a bound.
    fn ring(&self, queue: &Name) -> Result<Arc<Ring>, bus::Error> {
        let mut rings = self.0.rings.lock();
        if let Some(ring) = rings.get(queue) {
            return Ok(ring.clone());
        }
        if rings.len() >= self.0.most {
            return Err(bus::Error::Unavailable(format!("this node follows {} queues already", rings.len())));
        }
        let ring = Arc::new(Ring::default());
        rings.insert(queue.clone(), ring.clone());
        let feed = feed::run(self.clone(), queue.clone(), ring.clone());
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move { stop.run_until_cancelled_owned(feed).await });
        Ok(ring)
    }

    /// Forgets a queue's ring unless somebody reads it; whether it did.
    fn forget(&self, queue: &Name, ring: &Arc<Ring>) -> bool {
        let mut rings = self.0.rings.lock();
        let unread = feed::is_unread(ring);
        if unread {
            rings.remove(queue);
        }
        unread
    }

    /// Which queues there are, kept up to date while somebody holds it.
    fn queues(&self) -> Arc<Queues> {
        let mut known = self.0.queues.lock();
        if let Some(queues) = known.upgrade() {
            return queues;
        }
        let queues = Arc::new(Queues::default());
        *known = Arc::downgrade(&queues);
        let watch = queues::watch(self.0.bus.clone(), Arc::downgrade(&queues));
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move { stop.run_until_cancelled_owned(watch).await });
        queues
    }
}
