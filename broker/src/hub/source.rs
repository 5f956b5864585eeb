//! One queue, as one client reads it: from the ring while its place is there, else from the log.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bus::{Gap, GapReason, Tail, TailFrom, Tailed};
use events::{Envelope, Name};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Hub, Reader,
    feed::{REST, all, places},
    latest::{Latest, Viewed},
    ring::{Entry, Event, FellOut, Place, Places, Ring},
};
use crate::{access::Sight, metrics};

/// Entries taken from the ring at once.
const BATCH: usize = 16;
/// After so many events of the log, and this often, it is tried whether the ring has them.
const TRY_EVENTS: usize = 64;
/// It has read none, and tries before the first.
const AT_ONCE: usize = usize::MAX;
const TRY: Duration = Duration::from_secs(1);

pub(super) enum Item {
    Event(Arc<Event>),
    Gap(Gap),
    /// Everything that was there when it began was read; once.
    CaughtUp,
}

pub(super) struct Source {
    hub: Hub,
    queue: Name,
    sight: Arc<Sight>,
    ring: Arc<Ring>,
    changed: watch::Receiver<u64>,
    /// What was read, or passed over.
    seen: Places,
    reading: Reading,
    /// What was the end of each partition when it began, where that lies ahead.
    ends: BTreeMap<u32, End>,
    /// The bus was away: it is asked again then.
    rests_until: Option<Instant>,
    pub(super) caught_up: bool,
}

#[derive(Clone, Copy)]
enum End {
    At(u64),
    /// Its lineage is over: wherever the log says that it is read.
    OfLog,
}

enum Reading {
    /// Each key's last event, before the log.
    View(Box<Latest>, Reader),
    Ring {
        next: u64,
        batch: VecDeque<Entry>,
    },
    /// No tail: it has yet to be made.
    Log {
        tail: Option<Box<Tail>>,
        since_try: usize,
        reader: Reader,
        /// Counted as lagging, if it had been in the ring before.
        _lagging: Option<metrics::Lagging>,
    },
}

impl Source {
    /// Begins there. The second is how many events lie ahead.
    pub(super) async fn open(
        hub: &Hub,
        queue: Name,
        sight: Arc<Sight>,
        from: TailFrom,
    ) -> Result<(Self, u64), bus::Error> {
        let ring = hub.ring(&queue)?;
        let latest = from == TailFrom::Latest;
        let tail = hub.bus().tail(all(&queue), from.clone()).await?;
        // A cursor says where it was even while its queue isn't there.
        let seen = match from {
            TailFrom::Cursor(cursor) => of_cursor(&cursor),
            _ => places(&tail),
        };
        let (mut ends, mut ahead) = (BTreeMap::new(), 0);
        if !latest {
            for (partition, end) in places(&hub.bus().tail(all(&queue), TailFrom::Latest).await?) {
                let seen = seen.get(&partition).copied().unwrap_or((end.0, 0));
                ahead += end.1.saturating_sub(seen.1);
                if seen.0 != end.0 {
                    ends.insert(partition, End::OfLog);
                } else if seen.1 < end.1 {
                    ends.insert(partition, End::At(end.1));
                }
            }
        }
        let reading = Reading::log(hub, Some(tail), AT_ONCE);
        Ok((Self::begin(hub, queue, sight, ring, seen, ends, reading), ahead))
    }

    /// Begins with each key's last event, of those after this place.
    pub(super) async fn view(hub: &Hub, queue: Name, sight: Arc<Sight>, from: TailFrom) -> Result<Self, bus::Error> {
        let ring = hub.ring(&queue)?;
        let latest = Latest::open(hub.bus(), queue.clone()).await?;
        let seen = match from {
            TailFrom::Cursor(cursor) => of_cursor(&cursor),
            _ => Places::new(),
        };
        let reading = Reading::View(Box::new(latest), hub.reader());
        Ok(Self::begin(hub, queue, sight, ring, seen, BTreeMap::new(), reading))
    }

    fn begin(
        hub: &Hub,
        queue: Name,
        sight: Arc<Sight>,
        ring: Arc<Ring>,
        seen: Places,
        ends: BTreeMap<u32, End>,
        reading: Reading,
    ) -> Self {
        let (hub, changed) = (hub.clone(), ring.changed());
        Self { hub, queue, sight, ring, changed, seen, reading, ends, rests_until: None, caught_up: false }
    }

    pub(super) fn cursor(&self) -> bus::Cursor {
        cursor(&self.seen)
    }

    /// What comes next, if it is in memory.
    pub(super) fn ready(&mut self) -> Option<Item> {
        loop {
            if matches!(self.reading, Reading::View(..)) {
                return None;
            }
            if !self.caught_up && self.ends.is_empty() {
                self.caught_up = true;
                return Some(Item::CaughtUp);
            }
            let Reading::Ring { next, batch } = &mut self.reading else { return None };
            let Some(entry) = batch.pop_front() else {
                self.changed.borrow_and_update();
                match self.ring.read(*next, BATCH) {
                    Ok(entries) if entries.is_empty() => {
                        // Who waits needs no room for what it has read.
                        *batch = VecDeque::new();
                        return None;
                    }
                    Ok(entries) => {
                        *next += entries.len() as u64;
                        batch.extend(entries);
                    }
                    Err(FellOut) => {
                        let (reader, _lagging) = (self.hub.reader(), Some(metrics::Lagging::begin()));
                        self.reading = Reading::Log { tail: None, since_try: 0, reader, _lagging };
                    }
                }
                continue;
            };
            if self.seen.get(&entry.partition).is_some_and(|seen| seen.1 >= entry.place.1) {
                continue;
            }
            self.saw(entry.partition, entry.place);
            if self.shows(&entry.event.envelope) {
                return Some(Item::Event(entry.event));
            }
        }
    }

    /// What comes next; waits for it. May be cancelled and called again.
    pub(super) async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready() {
                return item;
            }
            if matches!(self.reading, Reading::Ring { .. }) {
                // Never closed: the ring is held.
                let _ = self.changed.changed().await;
            } else if let Some(item) = Box::pin(self.read_on()).await {
                // In a box: whoever waits for the ring needs no room for this.
                return item;
            }
        }
    }

    /// A step of reading the view or the log: what came of it, if anything did. May be cancelled and called again.
    async fn read_on(&mut self) -> Option<Item> {
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
            self.rests_until = None;
        }
        let item = match &mut self.reading {
            Reading::Ring { .. } => return None,
            Reading::View(latest, reader) => match latest.next(self.hub.bus(), &self.seen, reader.ahead()).await {
                Ok(viewed) => return self.viewed(viewed),
                Err(error) => Err(error),
            },
            Reading::Log { tail: slot @ None, .. } => {
                let cursor = cursor(&self.seen);
                match self.hub.bus().tail(all(&self.queue), TailFrom::Cursor(cursor)).await {
                    Ok(tail) => {
                        *slot = Some(Box::new(tail));
                        return None;
                    }
                    Err(error) => Err(error),
                }
            }
            Reading::Log { tail: Some(tail), since_try, reader, .. } => {
                if *since_try >= TRY_EVENTS {
                    // Who has just come gets something before it rests.
                    let is_new = *since_try == AT_ONCE;
                    *since_try = 0;
                    self.changed.borrow_and_update();
                    self.join();
                    if !is_new && matches!(self.reading, Reading::Log { .. }) {
                        self.hub.replay().await;
                    }
                    return None;
                }
                tail.read_ahead(reader.ahead());
                tokio::select! {
                    biased;
                    item = tail.next() => {
                        *since_try += 1;
                        item.map(|item| (item, places(tail)))
                    }
                    // What is appended wakes the tail itself. A page that is being read is not dropped for it: whoever is far
                    // behind would never get one, where much is published.
                    () = sleep(TRY) => { *since_try = TRY_EVENTS; return None }
                }
            }
        };
        match item {
            Ok((item, places)) => self.logged(item, places),
            Err(error) => {
                tracing::debug!(queue = %self.queue, %error, "a client can't read on now");
                // Kept, since whoever is told of another queue meanwhile asks again at once.
                self.rests_until = Some(Instant::now() + REST);
                None
            }
        }
    }

    /// Whether the client is told of it: what has expired is over.
    fn shows(&self, envelope: &Envelope) -> bool {
        self.sight.sees(envelope) && envelope.expirytime.is_none_or(|expiry| expiry > self.hub.bus().now())
    }

    /// Takes in what the view gave.
    fn viewed(&mut self, viewed: Option<Viewed>) -> Option<Item> {
        match viewed {
            Some(Viewed::Event(partition, place, envelope)) => {
                self.seen.insert(partition, place);
                self.shows(&envelope).then(|| Item::Event(Arc::new(Event::new(envelope))))
            }
            Some(Viewed::Gap(gap, place)) => {
                self.seen.insert(gap.partition, place);
                Some(Item::Gap(gap))
            }
            Some(Viewed::Done(partition, place)) => {
                self.seen.insert(partition, place);
                None
            }
            None => {
                self.reading = Reading::log(&self.hub, None, TRY_EVENTS);
                None
            }
        }
    }

    /// Takes in what the log gave.
    fn logged(&mut self, item: Tailed, places: Places) -> Option<Item> {
        match item {
            Tailed::Event { envelope, partition, .. } => {
                if let Some(&place) = places.get(&partition) {
                    self.saw(partition, place);
                }
                self.shows(&envelope).then(|| Item::Event(Arc::new(Event::new(envelope))))
            }
            Tailed::Gap(gap) => {
                self.seen.extend(places);
                if matches!(gap.reason, GapReason::Lineage | GapReason::Reset) && self.ends.contains_key(&gap.partition)
                {
                    self.ends.insert(gap.partition, End::OfLog);
                }
                Some(Item::Gap(gap))
            }
            Tailed::CaughtUp => {
                // A cursor may name partitions that aren't there.
                if !places.is_empty() {
                    self.seen = places;
                }
                self.ends.clear();
                if let Reading::Log { since_try, .. } = &mut self.reading {
                    *since_try = TRY_EVENTS;
                }
                None
            }
        }
    }

    /// Reads the ring from now on, if that holds all that is missing.
    fn join(&mut self) {
        // The tail knows of lineages that began without an event.
        if let Reading::Log { tail: Some(tail), .. } = &self.reading {
            self.seen.extend(places(tail));
        }
        let Some(next) = self.ring.join(&self.seen) else { return };
        for (&partition, end) in &mut self.ends {
            if matches!(end, End::OfLog) {
                *end = End::At(self.ring.newest(partition));
            }
        }
        let seen = &self.seen;
        self.ends.retain(|partition, end| match end {
            End::At(end) => seen.get(partition).is_none_or(|seen| seen.1 < *end),
            End::OfLog => true,
        });
        self.reading = Reading::Ring { next, batch: VecDeque::new() };
    }

    fn saw(&mut self, partition: u32, place: Place) {
        self.seen.insert(partition, place);
        if matches!(self.ends.get(&partition), Some(End::At(end)) if place.1 >= *end) {
            self.ends.remove(&partition);
        }
    }
}

impl Reading {
    fn log(hub: &Hub, tail: Option<Tail>, since_try: usize) -> Self {
        Self::Log { tail: tail.map(Box::new), since_try, reader: hub.reader(), _lagging: None }
    }
}

fn cursor(places: &Places) -> bus::Cursor {
    places.iter().map(|(&partition, &(lineage, position))| (partition, lineage, position)).collect()
}

fn of_cursor(cursor: &bus::Cursor) -> Places {
    cursor.places().map(|(partition, lineage, position)| (partition, (lineage, position))).collect()
}
