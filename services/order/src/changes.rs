//! Waiting for an order to be settled: woken by changes this process makes, and by a timer for those another one makes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

use crate::{
    domain::{Order, Status},
    store::Store,
};

/// How many changes a waiter may be behind before it looks for itself.
const BUFFER: usize = 256;
/// How often a waiter looks for changes made elsewhere.
const POLL: Duration = Duration::from_millis(250);

/// Tells the ids of orders that changed. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<Arc<str>>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BUFFER))
    }
}

impl Changes {
    pub fn announce(&self, id: &str) {
        // Nobody waits mostly.
        let _ = self.0.send(id.into());
    }
}

/// The order once it is confirmed or rejected, or as it is at `until`.
///
/// # Errors
/// If the database fails.
pub async fn settled(store: &Store, mut order: Order, until: Instant) -> Result<Order, database::Error> {
    let mut changes = store.changes().0.subscribe();
    loop {
        // Read after subscribing: what happened before is seen, what happens after wakes.
        order = store.find(&order.id).await?.unwrap_or(order);
        let now = Instant::now();
        if order.status() != Status::Pending || now >= until {
            return Ok(order);
        }
        // The timer's end is no failure: it is time to look.
        let _ = timeout_at(until.min(now + POLL), change_of(&order.id, &mut changes)).await;
    }
}

async fn change_of(id: &str, changes: &mut broadcast::Receiver<Arc<str>>) {
    loop {
        match changes.recv().await {
            Ok(changed) if *changed != *id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The store lives as long as its waiters; without it, only the timer is left.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
