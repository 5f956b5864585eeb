//! What the page shows, kept in memory, with the version in which each part changed last.
//!
//! What a page misses is worked out from those versions, not from a list of past deltas: a page that reads slowly gets
//! fewer and larger deltas, never a buffer that grows, and one that comes back is told what it missed. Versions are
//! counted from the start of the process; a position names the process too.

use std::{collections::BTreeMap, sync::Arc};

use bus::{Cursor, Gap};
use events::{Envelope, Name};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::{
    history::History,
    queue_line::QueueLine,
    recents::Recents,
    store::Kept,
    tally::Reason,
    view::{Connections, Gateway, GroupTold, Log, Recent, State, Told, milliseconds},
};

/// The most queues that are followed.
pub(crate) const MOST_QUEUES: usize = 512;

/// Clones show the same.
#[derive(Clone)]
pub(crate) struct Board(Arc<Shared>);

struct Shared {
    /// Names this process: its versions mean nothing to another.
    epoch: String,
    parts: Mutex<Parts>,
    version: watch::Sender<u64>,
    /// The last delta, which most pages need alike.
    rendered: Mutex<Rendered>,
}

#[derive(Default)]
struct Rendered {
    after: u64,
    version: u64,
    text: Arc<str>,
}

#[derive(Default)]
struct Parts {
    version: u64,
    changed: bool,
    queues: BTreeMap<Name, QueueLine>,
    recents: Recents,
    history: History,
    groups: Versioned<Vec<GroupTold>>,
    connections: Versioned<Connections>,
    gateways: Versioned<BTreeMap<String, Gateway>>,
    troubles: Versioned<BTreeMap<&'static str, String>>,
}

#[derive(Default)]
struct Versioned<T> {
    value: T,
    changed: u64,
}

/// A place in the board's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Board {
    pub fn new(kept: Vec<Kept>) -> Self {
        let queues =
            kept.into_iter().map(|kept| (kept.queue, QueueLine::restored(kept.tally, kept.cursor, 1))).collect();
        // Everything is part of version 1, so that a page at version 0, which has nothing, is told all.
        let mut parts = Parts { version: 1, queues, ..Parts::default() };
        parts.groups.changed = 1;
        parts.connections.changed = 1;
        parts.gateways.changed = 1;
        parts.troubles.changed = 1;
        Self(Arc::new(Shared {
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            parts: Mutex::new(parts),
            version: watch::Sender::new(1),
            rendered: Mutex::default(),
        }))
    }

    /// Makes what changed since the last call visible, as one version.
    pub fn publish(&self) {
        let mut parts = self.0.parts.lock();
        if std::mem::take(&mut parts.changed) {
            parts.version += 1;
            self.0.version.send_replace(parts.version);
        }
    }

    /// Changes with each version.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// The version that a position names, if it is one of this process.
    pub fn version(&self, position: &str) -> Option<Version> {
        let (epoch, version) = position.rsplit_once('-')?;
        let version = version.parse().ok()?;
        (epoch == self.0.epoch && version <= *self.0.version.borrow()).then_some(Version(version))
    }

    /// Everything as of now; its position, its text.
    pub fn snapshot(&self) -> (Version, Arc<str>) {
        // What isn't visible yet would be told again.
        self.publish();
        self.after(Version(0))
    }

    /// What changed after a version.
    pub fn after(&self, after: Version) -> (Version, Arc<str>) {
        let now = *self.0.version.borrow();
        {
            let rendered = self.0.rendered.lock();
            if rendered.after == after.0 && rendered.version == now {
                return (Version(now), rendered.text.clone());
            }
        }
        let parts = self.0.parts.lock();
        let version = parts.version;
        let told = parts.told(after.0, self.position(Version(version)));
        let text: Arc<str> = serde_json::to_string(&told).unwrap_or_default().into();
        drop(parts);
        if after.0 != 0 {
            *self.0.rendered.lock() = Rendered { after: after.0, version, text: text.clone() };
        }
        (Version(version), text)
    }

    pub fn position(&self, version: Version) -> String {
        format!("{}-{}", self.0.epoch, version.0)
    }

    /// The queues that are known.
    pub fn queues(&self) -> Vec<Name> {
        self.0.parts.lock().queues.keys().cloned().collect()
    }

    /// Where a queue was read to.
    pub fn cursor(&self, queue: &Name) -> Option<Cursor> {
        self.0.parts.lock().queues.get(queue)?.cursor.clone()
    }

    /// A queue that was never read: how many of its events are gone already.
    pub fn begin(&self, queue: &Name, cursor: Cursor, gone: u64) {
        self.line(queue, |line| {
            if gone > 0 {
                line.tally.miss(Reason::Before, Some(gone));
            }
            line.cursor = Some(cursor);
        });
    }

    /// Counts an event, with the cursor after it.
    pub fn count(&self, envelope: &Envelope, partition: u32, position: u64, cursor: Cursor) {
        let now = OffsetDateTime::now_utc();
        let recorded = envelope.recordedtime.unwrap_or(envelope.time).min(now);
        let mut parts = self.0.parts.lock();
        let version = parts.change();
        let line = parts.queues.entry(envelope.queue.clone()).or_insert_with(|| QueueLine::new(version));
        line.count(&envelope.event, recorded.unix_timestamp(), version);
        line.cursor = Some(cursor);
        parts.history.change(recorded.unix_timestamp(), now.unix_timestamp(), version, |second| {
            let events = second.events.entry(envelope.queue.as_str().to_owned()).or_default();
            *events = events.saturating_add(1);
        });
        parts.recents.show(Recent::of(envelope, recorded, partition, position), version);
    }

    /// Shows an event that was counted in another life.
    pub fn recall(&self, envelope: &Envelope, partition: u32, position: u64) {
        let recorded = envelope.recordedtime.unwrap_or(envelope.time).min(OffsetDateTime::now_utc());
        let mut parts = self.0.parts.lock();
        let version = parts.change();
        parts.recents.show(Recent::of(envelope, recorded, partition, position), version);
    }

    /// Notes a gap, with the cursor after it.
    pub fn miss(&self, queue: &Name, gap: &Gap, cursor: Cursor) {
        self.line(queue, |line| {
            line.tally.gap(gap);
            line.cursor = Some(cursor);
        });
    }

    pub fn follows(&self, queue: &Name, state: State) {
        self.line(queue, |line| line.state = state);
    }

    /// How many queues aren't caught up with, of how many.
    pub fn behind(&self) -> (usize, usize) {
        let parts = self.0.parts.lock();
        let behind = parts.queues.values().filter(|line| line.state != State::Live).count();
        (behind, parts.queues.len())
    }

    pub fn log(&self, queue: &Name, log: Log) {
        let mut parts = self.0.parts.lock();
        if parts.queues.get(queue).is_none_or(|line| line.log != log) {
            let version = parts.change();
            let line = parts.queues.entry(queue.clone()).or_insert_with(|| QueueLine::new(version));
            (line.log, line.changed) = (log, version);
        }
    }

    pub fn groups(&self, groups: Vec<GroupTold>) {
        self.replace(|parts| &mut parts.groups, groups);
    }

    pub fn connections(&self, connections: Connections) {
        self.replace(|parts| &mut parts.connections, connections);
    }

    /// What a gateway says; its traffic is charted.
    pub fn gateway(&self, url: &str, gateway: Gateway) {
        let traffic = gateway.traffic;
        let mut parts = self.0.parts.lock();
        if parts.gateways.value.get(url) != Some(&gateway) {
            parts.gateways.changed = parts.change();
            parts.gateways.value.insert(url.to_owned(), gateway);
        }
        if let Some(traffic) = traffic {
            let version = parts.change();
            let now = OffsetDateTime::now_utc().unix_timestamp();
            parts.history.change(now, now, version, |second| {
                second.traffic.insert(url.to_owned(), traffic);
            });
        }
    }

    /// What doesn't work at the moment, by part; None: it does.
    pub fn trouble(&self, part: &'static str, trouble: Option<String>) {
        let mut parts = self.0.parts.lock();
        if parts.troubles.value.get(part) != trouble.as_ref() {
            parts.troubles.changed = parts.change();
            match trouble {
                Some(trouble) => drop(parts.troubles.value.insert(part, trouble)),
                None => drop(parts.troubles.value.remove(part)),
            }
        }
    }

    /// A second has passed.
    pub fn pass(&self) {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut parts = self.0.parts.lock();
        let version = parts.version + 1;
        let mut changed = false;
        for line in parts.queues.values_mut() {
            changed |= line.pass(now, version);
        }
        parts.changed |= changed;
    }

    /// The tallies that are further than what is on disk.
    pub fn unsaved(&self) -> Vec<Kept> {
        let parts = self.0.parts.lock();
        let unsaved = parts.queues.iter().filter(|(_, line)| line.tally.progress() > line.saved);
        unsaved
            .filter_map(|(queue, line)| {
                let cursor = line.cursor.clone()?;
                Some(Kept { queue: queue.clone(), tally: line.tally.clone(), cursor })
            })
            .collect()
    }

    pub fn saved(&self, tallies: &[Kept]) {
        let mut parts = self.0.parts.lock();
        for kept in tallies {
            if let Some(line) = parts.queues.get_mut(&kept.queue) {
                line.saved = line.saved.max(kept.tally.progress());
            }
        }
    }

    fn line(&self, queue: &Name, change: impl FnOnce(&mut QueueLine)) {
        let mut parts = self.0.parts.lock();
        let version = parts.change();
        let line = parts.queues.entry(queue.clone()).or_insert_with(|| QueueLine::new(version));
        change(line);
        line.changed = version;
    }

    fn replace<T: PartialEq>(&self, part: impl FnOnce(&mut Parts) -> &mut Versioned<T>, value: T) {
        let mut parts = self.0.parts.lock();
        let version = parts.version + 1;
        let part = part(&mut parts);
        if part.value != value {
            *part = Versioned { value, changed: version };
            parts.change();
        }
    }
}

impl Parts {
    /// The version that a change now is part of.
    fn change(&mut self) -> u64 {
        self.changed = true;
        self.version + 1
    }

    fn told(&self, after: u64, position: String) -> Told<'_> {
        fn newer<T>(part: &Versioned<T>, after: u64) -> Option<&T> {
            (part.changed > after).then_some(&part.value)
        }
        let queues = self.queues.iter().filter_map(|(name, line)| Some((name.as_str(), line.told(after)?)));
        Told {
            position,
            at: milliseconds(OffsetDateTime::now_utc()),
            queues: queues.collect(),
            recent: self.recents.after(after).collect(),
            history: self.history.after(after).collect(),
            groups: newer(&self.groups, after),
            connections: newer(&self.connections, after),
            gateways: newer(&self.gateways, after),
            troubles: newer(&self.troubles, after),
        }
    }
}
