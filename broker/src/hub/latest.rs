//! Each key's last event of a queue, partition by partition, in the order of the log: what is told before the stream.
//!
//! A reader's place is as good here as in the stream: who is at a position has been told of every key whose last event
//! lies up to there. What changes meanwhile lies beyond the end that a partition had at first, and belongs to the stream.

use std::{collections::VecDeque, sync::Arc};

use bus::{Ahead, Bus, Gap, GapReason};
use events::{Envelope, Name};

use super::ring::{Place, Places};

pub(super) struct Latest {
    queue: Name,
    /// Those that are read, and the one that is being read.
    count: u32,
    partition: u32,
    /// Where that one is; None until its first page came.
    reading: Option<Reading>,
    page: VecDeque<(u64, Arc<Envelope>)>,
}

#[derive(Clone, Copy)]
struct Reading {
    lineage: u64,
    after: u64,
    /// The position of the stream's first event.
    end: u64,
}

pub(super) enum Viewed {
    Event(u32, Place, Arc<Envelope>),
    Gap(Gap, Place),
    /// A partition is done: the stream goes on from here.
    Done(u32, Place),
}

impl Latest {
    /// # Errors
    /// If the queue doesn't keep each key's last event, or the bus is away. One that isn't there has none.
    pub(super) async fn open(bus: &Bus, queue: Name) -> Result<Self, bus::Error> {
        let count = match bus.queue(&queue).await? {
            None => 0,
            Some(settings) if settings.latest => settings.partitions,
            Some(_) => {
                let detail = format!("view: the queue {queue} doesn't keep each key's last event (its setting latest)");
                return Err(bus::Error::Invalid(detail));
            }
        };
        Ok(Self { queue, count, partition: 0, reading: None, page: VecDeque::new() })
    }

    /// What comes next, of a reader that has seen so much and may read so much ahead; None: that was all. May be cancelled and
    /// called again.
    pub(super) async fn next(&mut self, bus: &Bus, seen: &Places, ahead: Ahead) -> Result<Option<Viewed>, bus::Error> {
        while self.partition < self.count {
            let partition = self.partition;
            if let (Some((position, envelope)), Some(reading)) = (self.page.pop_front(), &mut self.reading) {
                reading.after = position;
                return Ok(Some(Viewed::Event(partition, (reading.lineage, position), envelope)));
            }
            let after = match (self.reading, seen.get(&partition)) {
                (Some(reading), _) => reading.after,
                (None, seen) => seen.map_or(0, |seen| seen.1),
            };
            let page = bus.latest_page(&self.queue, partition, after, ahead.events).await?;
            let Some(current) = page.lineages.current() else { return Ok(None) };
            let Some(reading) = self.reading else {
                let gap =
                    seen.get(&partition).and_then(|&seen| Gap::after(partition, seen, &page.lineages, page.floor));
                let after = match &gap {
                    None => after,
                    Some(Gap { reason: GapReason::Retention, to, .. }) => to.saturating_sub(1),
                    // What it knows of may be of events that are no more: everything is told.
                    Some(_) => 0,
                };
                self.reading = Some(Reading { lineage: current.id, after, end: page.next });
                match gap {
                    Some(gap) => return Ok(Some(Viewed::Gap(gap, (current.id, after)))),
                    None => self.take(page, ahead.bytes),
                }
                continue;
            };
            self.take(page, ahead.bytes);
            if self.page.is_empty() {
                (self.partition, self.reading) = (partition + 1, None);
                let seen = reading.end.saturating_sub(1).max(reading.after);
                return Ok(Some(Viewed::Done(partition, (reading.lineage, seen))));
            }
        }
        Ok(None)
    }

    /// As many bytes of a page, and an event at least; the rest is read again.
    fn take(&mut self, page: bus::Page, most: usize) {
        let end = self.reading.map_or(0, |reading| reading.end);
        let mut bytes = 0;
        for logged in page.events.into_iter().take_while(|logged| logged.position < end) {
            bytes += logged.bytes;
            if bytes > most && !self.page.is_empty() {
                return;
            }
            self.page.push_back((logged.position, logged.envelope));
        }
    }
}
