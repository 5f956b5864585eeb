//! Following a queue without a group: a page of the log after the other, then what is recorded, from the same log, so
//! that nothing is missed in between. What can't be read any more is told as a gap.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use events::{Envelope, Filter};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::{
    Bus, Cursor, Error, Lineages, Logged, Page, Start,
    broken::{Promise, is_broken},
    cursor::Place,
    metrics,
};

/// What a partition's first page is read as if each event had.
const WEIGHT: usize = 64 * 1024;
/// A log that was reset says nothing by itself: its lineage is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// Where a tail begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailFrom {
    Earliest,
    Latest,
    /// With the first event recorded then or later.
    Time(OffsetDateTime),
    /// After what this cursor's reader had seen.
    Cursor(Cursor),
}

/// How much a tail reads ahead of whoever asks it, of all partitions together: each reader has its own, and may rest with it.
/// One event at least, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    pub events: usize,
    /// Of their JSON text.
    pub bytes: usize,
}

/// What a tail yields.
#[derive(Clone, Debug)]
pub enum Tailed {
    Event {
        envelope: Arc<Envelope>,
        partition: u32,
        position: u64,
    },
    Gap(Gap),
    /// Everything that was there when the tail began was yielded; once.
    CaughtUp,
}

/// Events that a tail should have yielded and can't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub partition: u32,
    /// The first position that is missing.
    pub from: u64,
    /// The position that the tail goes on from.
    pub to: u64,
    /// None where it can't be known.
    pub lost: Option<u64>,
    pub reason: GapReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// They were older than the queue keeps.
    Retention,
    /// They were recorded, and lost when the log went on from an earlier place.
    Lineage,
    /// The log began anew.
    Reset,
    /// Their rows can't be read.
    Unreadable,
}

/// A reader's place, and the way on from it.
pub struct Tail {
    bus: Bus,
    filter: Filter,
    begin: TailFrom,
    partitions: Vec<Reader>,
    buffer: VecDeque<(u32, Yield)>,
    ahead: Ahead,
    /// The bytes of an event, as the last page had them.
    weight: usize,
    /// The partition that is read next: none holds up the others.
    turn: usize,
    appended: watch::Receiver<u64>,
    caught_up: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    /// What was yielded.
    seen: Place,
    /// What was read into the buffer.
    next: u64,
    lineage: u64,
}

enum Yield {
    Event(Logged),
    Gap(Gap),
    /// The filter refused it: the reader's place moves on.
    Passed(u64),
}

impl Tail {
    pub(crate) async fn new(bus: Bus, filter: Filter, begin: TailFrom) -> Result<Self, Error> {
        let appended = bus.backend().appended(&filter.queue);
        let mut tail = Self {
            bus,
            filter,
            begin,
            partitions: Vec::new(),
            buffer: VecDeque::new(),
            ahead: Ahead::default(),
            weight: WEIGHT,
            turn: 0,
            appended,
            caught_up: false,
        };
        // `Latest` is the latest of now, not of the first read.
        tail.find_partitions().await?;
        // A queue that comes into being later has nothing that the tail shouldn't see.
        if tail.begin == TailFrom::Latest {
            tail.begin = TailFrom::Earliest;
        }
        Ok(tail)
    }

    /// What comes next; waits for it. May be cancelled and called again.
    ///
    /// # Errors
    /// If the bus is away; the tail can be asked again.
    pub async fn next(&mut self) -> Result<Tailed, Error> {
        loop {
            while let Some((partition, next)) = self.buffer.pop_front() {
                let reader = &mut self.partitions[partition as usize];
                match next {
                    Yield::Event(Logged { position, envelope, .. }) => {
                        reader.seen.position = position;
                        return Ok(Tailed::Event { envelope, partition, position });
                    }
                    Yield::Gap(gap) => {
                        reader.seen = Place { lineage: reader.lineage, position: gap.to.saturating_sub(1) };
                        metrics::gap(gap.reason);
                        return Ok(Tailed::Gap(gap));
                    }
                    Yield::Passed(position) => reader.seen.position = position,
                }
            }
            self.appended.borrow_and_update();
            self.find_partitions().await?;
            self.fill().await?;
            if !self.buffer.is_empty() {
                continue;
            }
            if !self.caught_up {
                self.caught_up = true;
                return Ok(Tailed::CaughtUp);
            }
            // Over after LOOK at the latest, whatever happens.
            let _ = tokio::time::timeout(LOOK, self.appended.changed()).await;
        }
    }

    /// Reads so much ahead from now on; what it has read already it keeps.
    pub fn read_ahead(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// How much it has read ahead.
    pub fn held(&self) -> Ahead {
        let bytes = |(_, next): &(u32, Yield)| if let Yield::Event(logged) = next { logged.bytes } else { 0 };
        Ahead { events: self.buffer.len(), bytes: self.buffer.iter().map(bytes).sum() }
    }

    /// Where the reader is, after what [`Tail::next`] yielded last.
    pub fn cursor(&self) -> Cursor {
        Cursor((0..).zip(&self.partitions).map(|(partition, reader)| (partition, reader.seen)).collect())
    }

    /// Reads a page of each partition, until that is as much as may be.
    async fn fill(&mut self) -> Result<(), Error> {
        let (mut events, mut bytes) = (0, 0);
        for _ in 0..self.partitions.len() {
            if events > 0 && (events >= self.ahead.events || bytes >= self.ahead.bytes) {
                return Ok(());
            }
            let at = self.turn % self.partitions.len();
            let partition = u32::try_from(at).unwrap_or(u32::MAX);
            let fit = self.ahead.bytes.saturating_sub(bytes) / self.weight;
            let most = fit.min(self.ahead.events.saturating_sub(events)).max(1);
            let mut page =
                self.bus.backend().read(&self.filter.queue, partition, self.partitions[at].next, most).await?;
            self.turn = at + 1;
            let weight: usize = page.events.iter().map(|logged| logged.bytes).sum();
            if !page.events.is_empty() {
                self.weight = (weight / page.events.len()).max(1);
            }
            let mut fitting = 0;
            for logged in &page.events {
                if events > 0 && bytes + logged.bytes > self.ahead.bytes {
                    break;
                }
                (events, bytes, fitting) = (events + 1, bytes + logged.bytes, fitting + 1);
            }
            // They were larger than those before: what is too much is read again, next time first if it was all.
            let is_full = fitting < page.events.len();
            page.events.truncate(fitting);
            self.take(partition, page);
            if is_full {
                if fitting == 0 {
                    self.turn = at;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds the partitions that are there by now, and where to begin in them.
    async fn find_partitions(&mut self) -> Result<(), Error> {
        let queue = &self.filter.queue;
        let count = self.bus.partition(queue, "").await?.count;
        for partition in u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)..count {
            let Some(current) = self.bus.lineage(queue, partition).await? else { return Ok(()) };
            let start = match &self.begin {
                TailFrom::Earliest => Start::Earliest,
                TailFrom::Latest => Start::Latest,
                TailFrom::Time(time) => Start::Time(*time),
                TailFrom::Cursor(cursor) => match cursor.0.get(&partition) {
                    Some(seen) => {
                        let next = seen.position + 1 + u64::from(is_broken(Promise::CursorsAreExact));
                        self.partitions.push(Reader { seen: *seen, next, lineage: seen.lineage });
                        continue;
                    }
                    None => Start::Earliest,
                },
            };
            let next = self.bus.backend().position_at(queue, partition, start).await?;
            let seen = Place { lineage: current.id, position: next.saturating_sub(1) };
            self.partitions.push(Reader { seen, next, lineage: current.id });
        }
        Ok(())
    }

    /// Takes a page in, with the gap before it if there is one.
    fn take(&mut self, partition: u32, page: Page) {
        let reader = &mut self.partitions[partition as usize];
        if let Some(gap) = gap(reader, partition, &page.lineages, page.floor) {
            // The page was read from a place that isn't there.
            reader.next = gap.to;
            self.buffer.push_back((partition, Yield::Gap(gap)));
            return;
        }
        reader.seen.lineage = reader.lineage;
        for logged in page.events {
            if logged.position > reader.next {
                let gap = Gap {
                    partition,
                    from: reader.next,
                    to: logged.position,
                    lost: Some(logged.position - reader.next),
                    reason: GapReason::Unreadable,
                };
                self.buffer.push_back((partition, Yield::Gap(gap)));
            }
            reader.next = logged.position + 1;
            let matches = self.filter.matches(&logged.envelope);
            let next = if matches { Yield::Event(logged) } else { Yield::Passed(logged.position) };
            self.buffer.push_back((partition, next));
        }
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self { events: 128, bytes: 1 << 20 }
    }
}

/// What lies between the reader's place and the log as it is now.
fn gap(reader: &mut Reader, partition: u32, lineages: &Lineages, floor: u64) -> Option<Gap> {
    let current = lineages.current()?;
    let lineage = std::mem::replace(&mut reader.lineage, current.id);
    Gap::after(partition, (lineage, reader.next.saturating_sub(1)), lineages, floor)
}

impl Gap {
    /// What a reader can't be given any more that has seen a partition up to (lineage, position), where its lineages and
    /// its oldest position are these now.
    pub fn after(partition: u32, (lineage, seen): (u64, u64), lineages: &Lineages, floor: u64) -> Option<Self> {
        let (current, next) = (lineages.current()?, seen + 1);
        let gap = |from, to, lost, reason| Some(Self { partition, from, to, lost, reason });
        if lineage != current.id {
            match lineages.cut(lineage) {
                Some(0) => return gap(next, floor, None, GapReason::Reset),
                Some(cut) if next > cut => {
                    return gap(cut, cut.max(floor), Some(next - cut), GapReason::Lineage);
                }
                _ => {}
            }
        }
        if next < floor {
            return gap(next, floor, Some(floor - next), GapReason::Retention);
        }
        None
    }
}
