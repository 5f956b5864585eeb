//! What every request's handler is given.

use std::sync::Arc;

use bus::{Attendance, Bus};
use jobs::Jobs;
use lifecycle::Shutdown;
use outbox::Journal;
use principal::Verifier;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use webhooks::Webhooks;

use crate::{Settings, asyncapi::Seen, durable::Durable, hub::Hub, overload::Overload, seal::Seal};

/// The broker's state. Clones share it.
#[derive(Clone)]
pub(crate) struct Shared {
    pub bus: Bus,
    /// Keeps what clients publish into queues that want it.
    pub journal: Option<Arc<Journal>>,
    /// None: there is no database for them.
    pub jobs: Option<Jobs>,
    /// Sends events to others' servers.
    pub webhooks: Option<Webhooks>,
    pub verifier: Verifier,
    /// Follows the log for all clients of this node.
    pub hub: Hub,
    /// Who is online by this node, and in which rooms.
    pub attendance: Attendance,
    /// Keeps the places of durable subscriptions.
    pub durable: Durable,
    /// Writes and reads the cursors of clients.
    pub seal: Seal,
    pub settings: Arc<Settings>,
    /// What is open ends by it.
    pub shutdown: Shutdown,
    /// A place for each client that follows.
    pub places: Arc<Semaphore>,
    /// A place for each that waits for a delivery: it asks the bus again and again.
    pub waiters: Arc<Semaphore>,
    /// What goes on beside the requests: sockets.
    pub tasks: TaskTracker,
    /// How much there is too much.
    pub overload: Overload,
    /// Which events queues have.
    pub seen: Arc<Seen>,
}
