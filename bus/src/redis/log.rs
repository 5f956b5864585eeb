//! Reading a partition's log, outside of scripts: an entry is `<first position>-<milliseconds>` and holds its lineage
//! (`l`) and one or more events (`e`), at consecutive positions.

use std::sync::Arc;

use events::{Envelope, Name};
use redis::{FromRedisValue as _, Value};

use super::{
    place::{Place, View},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Error, Logged, Page, Start,
    claiming::Entry,
    clock::{millis, moment},
};

/// The most events of a page, and the bytes after which one ends.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;
/// How often a page is read that changed while it was read.
const ATTEMPTS: usize = 3;

/// An entry of the stream.
struct Packed {
    first: u64,
    recorded: i64,
    lineage: u64,
    events: Vec<Vec<u8>>,
}

impl Packed {
    /// The position after its last event.
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// Part of a partition's log, and what was true when it was read.
pub(super) struct Part {
    pub(super) view: View,
    pub(super) entries: Vec<Entry>,
}

/// See [`crate::Bus::read`].
pub(super) async fn page(
    shared: &Shared,
    queue: &Name,
    partition: u32,
    from: u64,
    limit: usize,
) -> Result<Page, Error> {
    if shared.find_queue(queue).await?.is_none_or(|queue| queue.partitions <= partition) {
        return Ok(Page { events: Vec::new(), floor: 1, next: 1, lineages: Arc::default() });
    }
    let Part { view, entries } = read(shared, &shared.place(queue, partition), from, limit).await?;
    let events = entries.into_iter().map(Logged::from);
    Ok(Page { events: events.collect(), floor: view.floor, next: view.next, lineages: view.lineages })
}

/// At most `limit` events from a position on, but no more than some megabytes.
pub(super) async fn read(shared: &Shared, place: &Place, from: u64, limit: usize) -> Result<Part, Error> {
    let limit = limit.min(PAGE);
    if let Some((view, entries)) = place.recall(from, limit) {
        return Ok(Part { view, entries });
    }
    let mut attempt = 1;
    loop {
        // Both at once: the answers come in the order of asking, so the entries are at least as new as the view.
        let (looked, packed) =
            tokio::join!(shared.look(&place.queue, place.partition), packed(shared, place, from, place.entries(limit)));
        let mut reading = Reading::new(looked?.view, from, limit);
        reading.take(packed?.entries);
        while reading.wants_more() {
            let before = reading.at;
            let count = place.entries(limit - reading.entries.len());
            reading.take(self::packed(shared, place, reading.at, count).await?.entries);
            if reading.at == before {
                break;
            }
        }
        if reading.is_whole() || attempt == ATTEMPTS {
            return Ok(reading.done());
        }
        attempt += 1;
    }
}

/// The events at these positions, which rise, until it is some megabytes; those that were trimmed are missing.
pub(super) async fn these(shared: &Shared, place: &Place, positions: &[u64]) -> Result<Vec<Entry>, Error> {
    let (mut wanted, mut entries, mut bytes) = (positions, Vec::new(), 0);
    let mut dense = false;
    while let Some(first) = wanted.first()
        && bytes < PAGE_BYTES
    {
        let found = packed(shared, place, *first, if dense { place.entries(wanted.len()) } else { 0 }).await?.entries;
        let (read, had) = (found.len(), entries.len());
        let end = found.last().map_or(0, Packed::end).max(first + 1);
        let (here, rest) = wanted.split_at(wanted.partition_point(|position| *position < end));
        for entry in found {
            for (position, json) in (entry.first..).zip(&entry.events) {
                if here.binary_search(&position).is_ok()
                    && let Some(envelope) = decode(json, entry.recorded, position)
                {
                    bytes += json.len();
                    let (envelope, recorded) = (Arc::new(envelope), entry.recorded);
                    entries.push(Entry { position, envelope, bytes: json.len(), recorded });
                }
            }
        }
        // Where few of them are wanted, entries are read one by one.
        dense = (entries.len() - had) * 2 >= read;
        wanted = rest;
    }
    Ok(entries)
}

/// Where a reader that starts so begins in a partition.
pub(super) async fn position_at(shared: &Shared, queue: &Name, partition: u32, start: Start) -> Result<u64, Error> {
    if shared.find_queue(queue).await?.is_none_or(|queue| queue.partitions <= partition) {
        return Ok(1);
    }
    let view = shared.look(queue, partition).await?.view;
    Ok(match start {
        Start::Earliest => view.floor,
        Start::Latest => view.next,
        Start::Position(position) => position.clamp(view.floor, view.next),
        Start::Time(time) => recorded_at(shared, &shared.place(queue, partition), &view, millis(time)).await?,
    })
}

/// The first position that was recorded at `time` or later.
pub(super) async fn recorded_at(shared: &Shared, place: &Place, view: &View, time: i64) -> Result<u64, Error> {
    let (mut low, mut high) = (view.floor, view.next);
    // Mostly nothing is that old.
    if packed(shared, place, low, 0)
        .await?
        .entries
        .first()
        .is_some_and(|entry| entry.end() > low && entry.recorded >= time)
    {
        return Ok(low);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = packed(shared, place, middle, 0).await?.entries.into_iter().next();
        match entry.filter(|entry| entry.end() > middle) {
            Some(entry) if entry.recorded >= time => high = entry.first.max(low),
            Some(entry) => low = entry.end(),
            None => low = middle + 1,
        }
    }
    Ok(low.min(view.next))
}

/// What [`ahead`] read.
pub(super) struct Ahead {
    pub(super) events: Vec<Entry>,
    /// The first position that there is from there on, and the one after the last of them.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// The stream had no more.
    pub(super) ended: bool,
}

/// Events from a position on, as the stream has them, at most so many. Whether they are of the partition's current
/// lineage must be seen to by whoever reads so: a page costs a look besides.
pub(super) async fn ahead(shared: &Shared, place: &Place, from: u64, limit: usize) -> Result<Ahead, Error> {
    if let Some((view, events)) = place.recall(from, limit) {
        let end = from + events.len() as u64;
        return Ok(Ahead { events, begin: from, end, ended: end >= view.next });
    }
    let Found { entries, ended } = packed(shared, place, from, place.entries(limit)).await?;
    let begin = entries.iter().find(|entry| entry.end() > from).map_or(from, |entry| entry.first.max(from));
    let mut ahead = Ahead { events: Vec::new(), begin, end: from, ended };
    for entry in entries {
        let recorded = entry.recorded;
        for (position, json) in (entry.first..).zip(entry.events).filter(|(position, _)| *position >= from) {
            if ahead.events.len() >= limit {
                ahead.ended = false;
                return Ok(ahead);
            }
            if let Some(envelope) = decode(&json, recorded, position) {
                let (envelope, bytes) = (Arc::new(envelope), json.len());
                ahead.events.push(Entry { position, envelope, bytes, recorded });
            }
            ahead.end = position + 1;
        }
    }
    Ok(ahead)
}

/// What [`packed`] found.
struct Found {
    entries: Vec<Packed>,
    /// The stream had no more.
    ended: bool,
}

/// The entry that holds a position, or the last one before it; and at most so many after that.
async fn packed(shared: &Shared, place: &Place, from: u64, count: usize) -> Result<Found, Error> {
    let stream = &place.keys.stream;
    let mut both = redis::pipe();
    // Not a transaction, which a full server refuses. What comes after is read first: what is recorded between the two is
    // then in the second, or comes later than both.
    if count > 0 {
        both.cmd("XRANGE").arg(stream).arg(from + 1).arg("+").arg("COUNT").arg(count);
    }
    both.cmd("XREVRANGE").arg(stream).arg(from).arg("-").arg("COUNT").arg(1);
    let parts: Vec<Value> = shared.server.ask_all(&both).await?;
    let mut entries = Vec::new();
    let mut after = 0;
    for (part, comes_after) in parts.into_iter().rev().zip([false, true]) {
        let Value::Array(part) = part else { return Err(unexpected()) };
        after = if comes_after { part.len() } else { after };
        for entry in part {
            entries.push(parse(entry).ok_or_else(unexpected)?);
        }
    }
    place.read(entries.iter().map(|entry| (entry.events.len(), entry.events.iter().map(Vec::len).sum())));
    Ok(Found { entries, ended: after < count })
}

fn parse(entry: Value) -> Option<Packed> {
    let Value::Array(parts) = entry else { return None };
    let [id, fields]: [Value; 2] = parts.try_into().ok()?;
    let id = String::from_redis_value(id).ok()?;
    let (first, recorded) = id.split_once('-')?;
    let Value::Array(fields) = fields else { return None };
    let mut lineage = 0;
    let mut events = Vec::new();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (name, value) {
            (Value::BulkString(name), Value::BulkString(json)) if name == b"e" => events.push(json),
            (Value::BulkString(name), value) if name == b"l" => lineage = u64::from_redis_value(value).ok()?,
            _ => {}
        }
    }
    Some(Packed { first: first.parse().ok()?, recorded: recorded.parse().ok()?, lineage, events })
}

/// A page while it is read.
struct Reading {
    view: View,
    limit: usize,
    /// Where the page begins, and the next position to read.
    from: u64,
    at: u64,
    entries: Vec<Entry>,
    bytes: usize,
    /// Something is of another lineage than the view says, or missing where it should be.
    torn: bool,
}

impl Reading {
    fn new(view: View, from: u64, limit: usize) -> Self {
        let from = from.max(view.floor);
        Self { view, limit, from, at: from, entries: Vec::new(), bytes: 0, torn: false }
    }

    fn take(&mut self, packed: Vec<Packed>) {
        for entry in packed {
            if entry.end() <= self.at {
                continue;
            }
            let of = self.view.lineages.of(entry.first);
            if of.is_some_and(|lineage| lineage.id != entry.lineage) {
                self.torn = true;
                return;
            }
            self.torn |= entry.first > self.at;
            for (position, json) in (entry.first..).zip(entry.events) {
                if position < self.at || self.entries.len() >= self.limit {
                    continue;
                }
                self.bytes += json.len();
                if let Some(envelope) = decode(&json, entry.recorded, position) {
                    let (envelope, bytes, recorded) = (Arc::new(envelope), json.len(), entry.recorded);
                    self.entries.push(Entry { position, envelope, bytes, recorded });
                }
                self.at = position + 1;
            }
        }
    }

    fn wants_more(&self) -> bool {
        !self.torn && self.at < self.view.next && self.entries.len() < self.limit && self.bytes < PAGE_BYTES
    }

    fn done(mut self) -> Part {
        // What was read was recorded since it was looked; where nothing was, it says nothing of the head.
        if self.at > self.from {
            self.view.next = self.view.next.max(self.at);
        }
        Part { view: self.view, entries: self.entries }
    }

    /// Nothing is missing between its events, or before them.
    fn is_whole(&self) -> bool {
        !self.torn && (self.at > self.from || self.from >= self.view.next || self.limit == 0)
    }
}

/// An event as it is stored, with what the bus adds.
pub(super) fn decode(json: &[u8], recorded: i64, position: u64) -> Option<Envelope> {
    match serde_json::from_slice::<Envelope>(json) {
        Ok(mut envelope) => {
            envelope.recordedtime = Some(moment(recorded));
            envelope.sequence = Some(position);
            Some(envelope)
        }
        Err(error) => {
            tracing::error!(position, %error, "an event of the log can't be read");
            None
        }
    }
}
