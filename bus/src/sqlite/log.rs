//! A partition's log: its rows, and the newest of them in memory, which is what members and tails mostly read.

use std::{collections::VecDeque, sync::Arc};

use events::Envelope;
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::latest;
pub(super) use crate::claiming::Entry;
use crate::{Lineages, clock};

/// Events and bytes kept in memory, a partition.
const RECENT_EVENTS: usize = 1024;
const RECENT_BYTES: usize = 4 << 20;

/// Events that are looked at to find out what fits; and after how many the file is told how many bytes it has.
const PIECE: i64 = 4096;
const COUNT: u64 = 10_000;

/// Bytes after which a page ends.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// Positions take the lower 40 bits of a row's id.
const POSITION_BITS: u32 = 40;

/// What readers see of a partition: committed, and nothing else.
#[derive(Default)]
pub(super) struct View {
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    pub(super) floor: u64,
    pub(super) next: u64,
    pub(super) lineages: Arc<Lineages>,
}

pub(super) struct Log {
    /// Of the row in `partition`.
    pub(super) id: i64,
    pub(super) floor: u64,
    pub(super) next: u64,
    pub(super) lineages: Arc<Lineages>,
    /// Of the events that are kept.
    pub(super) bytes: u64,
    /// What the file says of these bytes is true of the positions before this one.
    counted: u64,
    /// Written in the open transaction.
    pending: Vec<Entry>,
    changed: bool,
    pub(super) view: Arc<RwLock<View>>,
}

impl Log {
    pub(super) fn new(id: i64, floor: u64, next: u64, lineages: Lineages) -> Self {
        let lineages = Arc::new(lineages);
        let view = View { floor, next, lineages: lineages.clone(), ..View::default() };
        let view = Arc::new(RwLock::new(view));
        Self { id, floor, next, lineages, bytes: 0, counted: 0, pending: Vec::new(), changed: false, view }
    }

    /// Finds out how many bytes are kept: what the file says, and of what came since.
    pub(super) fn weigh(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let (bytes, counted): (i64, i64) = conn
            .prepare_cached("SELECT bytes, counted FROM partition WHERE id = ?1")?
            .query_row([self.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.counted = unsigned(counted);
        self.bytes = unsigned(bytes) + weight(conn, self.id, self.counted.max(self.floor), self.next)?;
        Ok(())
    }

    /// Has the file say how many bytes are kept, where that is a long way back.
    pub(super) fn note_weight(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.next - self.counted.min(self.next) < COUNT { Ok(()) } else { self.store_floor(conn) }
    }

    fn store_floor(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.counted = self.next;
        conn.prepare_cached("UPDATE partition SET floor = ?2, bytes = ?3, counted = ?4 WHERE id = ?1")?
            .execute(params![self.id, signed(self.floor), signed(self.bytes), signed(self.counted)])?;
        Ok(())
    }

    /// The first position with which, and with what follows, no more than so many bytes are kept; it looks at some events
    /// at most.
    pub(super) fn fits(&self, conn: &Connection, bytes: u64) -> rusqlite::Result<u64> {
        let mut left = self.bytes;
        let mut statement = conn
            .prepare_cached("SELECT id, length(envelope) FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
        let mut rows = statement.query([row(self.id, self.floor), row(self.id, self.next), PIECE])?;
        let mut stop = self.floor;
        while left > bytes
            && let Some(found) = rows.next()?
        {
            left = left.saturating_sub(unsigned(found.get(1)?));
            stop = position(found.get(0)?) + 1;
        }
        Ok(stop)
    }

    /// Appends an event, which gets the next position.
    pub(super) fn append(
        &mut self,
        conn: &Connection,
        mut envelope: Envelope,
        json: &[u8],
        now: i64,
    ) -> rusqlite::Result<u64> {
        let position = self.next;
        conn.prepare_cached("INSERT INTO log (id, recorded, envelope) VALUES (?1, ?2, ?3)")?.execute(params![
            row(self.id, position),
            now,
            json
        ])?;
        stamp(&mut envelope, now, position);
        self.bytes += json.len() as u64;
        self.pending.push(Entry { position, envelope: Arc::new(envelope), bytes: json.len(), recorded: now });
        self.next += 1;
        self.changed = true;
        Ok(position)
    }

    /// How many events it holds.
    pub(super) fn len(&self) -> u64 {
        self.next - self.floor
    }

    /// At most `limit` events from a position on.
    pub(super) fn read(&self, conn: &Connection, from: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
        let committed = self.next - self.pending.len() as u64;
        if from >= committed {
            let skip = usize::try_from(from - committed).unwrap_or(usize::MAX);
            return Ok(self.pending.iter().skip(skip).take(limit).cloned().collect());
        }
        if let Some(recent) = self.view.read().recent(from, limit) {
            return Ok(recent);
        }
        rows(conn, self.id, from, self.next, limit)
    }

    pub(super) fn get(&self, conn: &Connection, position: u64) -> rusqlite::Result<Option<Entry>> {
        Ok(self.read(conn, position, 1)?.into_iter().next().filter(|entry| entry.position == position))
    }

    /// Shows readers what was committed; whether anything was appended.
    pub(super) fn committed(&mut self) -> bool {
        if !std::mem::take(&mut self.changed) {
            return false;
        }
        let appended = !self.pending.is_empty();
        let mut view = self.view.write();
        view.floor = self.floor;
        view.next = self.next;
        view.lineages = self.lineages.clone();
        for entry in self.pending.drain(..) {
            view.recent_bytes += entry.bytes;
            view.recent.push_back(entry);
        }
        while view.recent.len() > RECENT_EVENTS || view.recent_bytes > RECENT_BYTES {
            let Some(oldest) = view.recent.pop_front() else { break };
            view.recent_bytes -= oldest.bytes;
        }
        appended
    }

    pub(super) fn set_lineages(&mut self, lineages: Lineages) {
        self.lineages = lineages.into();
        self.changed = true;
    }

    /// The first position that was recorded at `time` or later.
    pub(super) fn position_at(&self, conn: &Connection, time: i64) -> rusqlite::Result<u64> {
        let (mut low, mut high) = (self.floor, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            let recorded: Option<i64> = conn
                .prepare_cached("SELECT recorded FROM log WHERE id = ?1")?
                .query_row([row(self.id, middle)], |row| row.get(0))
                .optional()?;
            if recorded.is_none_or(|recorded| recorded < time) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Deletes what lies before a position. What the open transaction appended stays.
    pub(super) fn raise(&mut self, conn: &Connection, floor: u64) -> rusqlite::Result<()> {
        let floor = floor.min(self.next - self.pending.len() as u64);
        if floor <= self.floor {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_sub(weight(conn, self.id, self.floor, floor)?);
        conn.prepare_cached("DELETE FROM log WHERE id >= ?1 AND id < ?2")?
            .execute([row(self.id, self.floor), row(self.id, floor)])?;
        latest::forget(conn, self.id, floor)?;
        self.floor = floor;
        self.changed = true;
        self.store_floor(conn)
    }
}

/// Bytes of the events from a position to another one.
pub(super) fn weight(conn: &Connection, partition: i64, from: u64, to: u64) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT coalesce(sum(length(envelope)), 0) FROM log WHERE id >= ?1 AND id < ?2")?
        .query_row([row(partition, from), row(partition, to)], |row| row.get(0))
        .map(unsigned)
}

impl View {
    /// From memory, if that position is still there.
    pub(super) fn recent(&self, from: u64, limit: usize) -> Option<Vec<Entry>> {
        if from >= self.next {
            return Some(Vec::new());
        }
        let skip = usize::try_from(from.checked_sub(self.recent.front()?.position)?).ok()?;
        Some(self.recent.iter().skip(skip).take(limit).cloned().collect())
    }
}

/// Reads rows of a partition, until it is some megabytes; one that can't be read is left out, and the log tells.
pub(super) fn rows(
    conn: &Connection,
    partition: i64,
    from: u64,
    to: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement =
        conn.prepare_cached("SELECT id, recorded, envelope FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = statement.query(params![row(partition, from), row(partition, to)])?;
    let (mut entries, mut read) = (Vec::new(), 0);
    // One that can't be read counts for nothing: a page without events would say that there are none.
    while entries.len() < limit
        && read < PAGE_BYTES
        && let Some(found) = rows.next()?
    {
        let position = position(found.get(0)?);
        read += found.get_ref(2)?.as_blob()?.len();
        if let Some((envelope, bytes)) = decode(found.get_ref(2)?, found.get(1)?, position)? {
            entries.push(Entry { position, envelope: Arc::new(envelope), bytes, recorded: found.get(1)? });
        }
    }
    Ok(entries)
}

pub(super) fn decode(
    json: rusqlite::types::ValueRef<'_>,
    recorded: i64,
    position: u64,
) -> rusqlite::Result<Option<(Envelope, usize)>> {
    let json = json.as_blob()?;
    match serde_json::from_slice::<Envelope>(json) {
        Ok(mut envelope) => {
            stamp(&mut envelope, recorded, position);
            Ok(Some((envelope, json.len())))
        }
        Err(error) => {
            tracing::error!(position, %error, "an event of the log can't be read");
            Ok(None)
        }
    }
}

/// What the bus adds to an event.
fn stamp(envelope: &mut Envelope, recorded: i64, position: u64) {
    envelope.recordedtime = Some(clock::moment(recorded));
    envelope.sequence = Some(position);
}

pub(super) fn row(partition: i64, position: u64) -> i64 {
    partition << POSITION_BITS | signed(position)
}

pub(super) fn position(row: i64) -> u64 {
    unsigned(row & ((1 << POSITION_BITS) - 1))
}

/// SQLite's integers are signed; the same 64 bits.
pub(super) fn signed(value: u64) -> i64 {
    value.cast_signed()
}

pub(super) fn unsigned(value: i64) -> u64 {
    value.cast_unsigned()
}
