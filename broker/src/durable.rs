//! Durable subscriptions: how far their clients have acknowledged, kept at the bus, so that they go on from there at any
//! node.
//!
//! Acknowledgements gather for half a second and are written in batches: what a node that dies had not written comes again
//! to its clients. Of several that use one name the last to come has it; the others are told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bus::{Bus, Move, Moved};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{cursor::Cursor, metrics};

/// How long acknowledgements gather.
const GATHER: Duration = Duration::from_millis(500);
/// Places written at once.
const BATCH: usize = 256;
/// How long it rests after the bus was away.
const REST: Duration = Duration::from_secs(1);
/// How often the place of a client that stays is written though it doesn't move: it is in use.
const TOUCH: Duration = Duration::from_secs(3600);
/// How long the last words of those who leave may take at the end.
const LAST: Duration = Duration::from_secs(2);

/// The durable subscriptions of this node. Clones share them.
#[derive(Clone)]
pub(crate) struct Durable(Arc<Inner>);

struct Inner {
    bus: Bus,
    /// By holder. As many as clients have subscribed, and those who left whose place is still to be written.
    kept: Mutex<HashMap<u64, Entry>>,
    /// There is something to write.
    dirty: Notify,
}

struct Entry {
    user: String,
    name: String,
    cursor: Cursor,
    dirty: bool,
    /// Its client has gone.
    left: bool,
    written: Instant,
    /// Tells the client why it is over.
    over: Option<oneshot::Sender<Over>>,
}

/// Why a subscription is over that the client didn't end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Another connection has subscribed by the same name.
    Taken,
    /// Somebody removed it.
    Removed,
}

/// A client's hold on its place; dropped, the place stays where it was acknowledged last.
pub(crate) struct Kept {
    holder: u64,
    durable: Durable,
}

impl Durable {
    pub(crate) fn new(bus: Bus) -> Self {
        Self(Arc::new(Inner { bus, kept: Mutex::default(), dirty: Notify::new() }))
    }

    /// Keeps the place of a bookmark that was opened, from this one on. The second tells when it is over.
    pub(crate) fn keep(
        &self,
        user: String,
        name: String,
        holder: u64,
        cursor: Cursor,
    ) -> (Kept, oneshot::Receiver<Over>) {
        let (over, told) = oneshot::channel();
        let written = Instant::now();
        let entry = Entry { user, name, cursor, dirty: true, left: false, written, over: Some(over) };
        self.0.kept.lock().insert(holder, entry);
        self.0.dirty.notify_one();
        (Kept { holder, durable: self.clone() }, told)
    }

    /// Writes until it is stopped, and then what is left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.dirty.notified() => {}
                () = sleep(TOUCH / 4) => {}
            }
            let _ = stop.run_until_cancelled(sleep(GATHER)).await;
            if !self.write().await {
                let _ = stop.run_until_cancelled(sleep(REST)).await;
                self.0.dirty.notify_one();
            }
        }
        if timeout(LAST, self.write()).await != Ok(true) {
            tracing::warn!("not every place of a durable subscription was written: some events come again");
        }
    }

    /// Writes what there is; whether the bus took it.
    async fn write(&self) -> bool {
        loop {
            let moves = self.take();
            if moves.is_empty() {
                return true;
            }
            match self.0.bus.move_bookmarks(moves.clone()).await {
                Ok(outcomes) => self.wrote(&moves, &outcomes),
                Err(error) => {
                    tracing::warn!(%error, "places of durable subscriptions can't be written now");
                    metrics::place("failed", moves.len());
                    self.put_back(&moves);
                    return false;
                }
            }
        }
    }

    /// Some of what is to be written.
    fn take(&self) -> Vec<Move> {
        let mut kept = self.0.kept.lock();
        let due = kept.iter_mut().filter(|(_, entry)| entry.dirty || entry.written.elapsed() >= TOUCH);
        let moves = due.take(BATCH).map(|(&holder, entry)| {
            (entry.dirty, entry.written) = (false, Instant::now());
            let (user, name, cursor) = (entry.user.clone(), entry.name.clone(), entry.cursor.to_string());
            Move { user, name, holder, cursor }
        });
        moves.collect()
    }

    fn wrote(&self, moves: &[Move], outcomes: &[Moved]) {
        let mut kept = self.0.kept.lock();
        for (moved, outcome) in moves.iter().zip(outcomes) {
            let (over, label) = match outcome {
                Moved::Done => (None, "moved"),
                Moved::Taken => (Some(Over::Taken), "taken"),
                Moved::Gone => (Some(Over::Removed), "removed"),
            };
            metrics::place(label, 1);
            let Some(entry) = kept.get_mut(&moved.holder) else { continue };
            let is_over = over.is_some();
            if let Some(over) = over
                && let Some(told) = entry.over.take()
            {
                // Whoever was to hear it may have gone.
                let _ = told.send(over);
            }
            if is_over || (entry.left && !entry.dirty) {
                kept.remove(&moved.holder);
            }
        }
    }

    /// Has it written again, unless something newer is to be written by now.
    fn put_back(&self, moves: &[Move]) {
        let mut kept = self.0.kept.lock();
        for moved in moves {
            if let Some(entry) = kept.get_mut(&moved.holder) {
                entry.dirty = true;
            }
        }
    }
}

impl Kept {
    /// The client has acknowledged everything up to here.
    pub(crate) fn shift(&self, cursor: Cursor) {
        let Durable(inner) = &self.durable;
        if let Some(entry) = inner.kept.lock().get_mut(&self.holder) {
            (entry.cursor, entry.dirty) = (cursor, true);
        }
        inner.dirty.notify_one();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Durable(inner) = &self.durable;
        if let Some(entry) = inner.kept.lock().get_mut(&self.holder) {
            // Written once more: what is being written now may fail.
            (entry.left, entry.dirty) = (true, true);
        }
        inner.dirty.notify_one();
    }
}
