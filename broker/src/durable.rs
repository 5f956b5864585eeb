//! Durable subscriptions: how far their clients have acknowledged, kept at the bus, so that they go on from there at any
//! node.
//!
//! Acknowledgements gather for half a second and are written in batches: what a node that dies had not written comes again
//! to its clients. Of several that use one name the last to come has it; the others are told once it is looked who has
//! their place: at once where that is known to change at this node, else every three seconds, a thousand of them a second.

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
/// How often it is looked whether a place is still its client's, and how many are looked at in a second.
const LOOK: Duration = Duration::from_secs(3);
const LOOKS: usize = 1024;
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
    /// Some place may be somebody else's now.
    doubt: Notify,
}

struct Entry {
    user: String,
    name: String,
    cursor: Cursor,
    dirty: bool,
    /// Its client has gone.
    left: bool,
    written: Instant,
    /// When it was seen last that nobody else has it; None: that is in doubt.
    looked: Option<Instant>,
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
        Self(Arc::new(Inner { bus, kept: Mutex::default(), dirty: Notify::new(), doubt: Notify::new() }))
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
        let now = Instant::now();
        self.doubt(&user, &name);
        let looked = Some(now);
        let entry = Entry { user, name, cursor, dirty: true, left: false, written: now, looked, over: Some(over) };
        self.0.kept.lock().insert(holder, entry);
        self.0.dirty.notify_one();
        (Kept { holder, durable: self.clone() }, told)
    }

    /// This place was opened again, or removed: it is looked at once whether those at this node who had it still do.
    pub(crate) fn doubt(&self, user: &str, name: &str) {
        for entry in self.0.kept.lock().values_mut().filter(|entry| entry.user == user && entry.name == name) {
            entry.looked = None;
        }
        self.0.doubt.notify_one();
    }

    /// Writes until it is stopped, and then what is left. Looks meanwhile whether places are still their clients'.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let looking = stop.run_until_cancelled(self.look_after());
        let writing = self.write_until(&stop);
        tokio::join!(looking, writing);
    }

    async fn look_after(&self) {
        loop {
            _ = timeout(Duration::from_secs(1), self.0.doubt.notified()).await;
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "who has the places of durable subscriptions can't be asked now");
            }
        }
    }

    /// Looks at some that weren't looked at for a while.
    async fn look(&self) -> Result<(), bus::Error> {
        for _ in 0..LOOKS / BATCH {
            let due: Vec<(u64, (String, String))> = {
                let mut kept = self.0.kept.lock();
                let due = kept.iter_mut().filter(|(_, entry)| !entry.left && entry.is_looked_at());
                let mut due: Vec<_> = due.collect();
                // Those that waited longest, and before them those in doubt: each gets its turn.
                due.sort_unstable_by_key(|(_, entry)| entry.looked);
                let looked_at = due.into_iter().take(BATCH).map(|(&holder, entry)| {
                    entry.looked = Some(Instant::now());
                    (holder, (entry.user.clone(), entry.name.clone()))
                });
                looked_at.collect()
            };
            if due.is_empty() {
                return Ok(());
            }
            let (own, which): (Vec<u64>, Vec<_>) = due.into_iter().unzip();
            let holders = self.0.bus.bookmark_holders(which).await?;
            let mut kept = self.0.kept.lock();
            for (own, holder) in own.iter().zip(holders) {
                let Some(entry) = kept.get_mut(own) else { continue };
                let (over, label) = match holder {
                    Some(holder) if holder == *own => continue,
                    Some(_) => (Over::Taken, "taken"),
                    None => (Over::Removed, "removed"),
                };
                metrics::place(label, 1);
                entry.tell(over);
                kept.remove(own);
            }
        }
        Ok(())
    }

    async fn write_until(&self, stop: &CancellationToken) {
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
            // One that came into doubt meanwhile is looked at all the same.
            entry.looked = entry.looked.map(|_| Instant::now());
            if let Some(over) = over {
                entry.tell(over);
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

impl Entry {
    /// Whether it is time to look who has it.
    fn is_looked_at(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= LOOK)
    }

    fn tell(&mut self, over: Over) {
        if let Some(told) = self.over.take() {
            // Whoever was to hear it may have gone.
            let _ = told.send(over);
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
