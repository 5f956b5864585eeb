//! Each key's last event, of queues that ask for it: a row a key, which goes when its event is trimmed.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::log::{self, Entry, Log, signed, unsigned};
use crate::batch::Prepared;

/// Events of a partition that a view is built from when a queue begins to keep one.
pub(super) const BUILT_FROM: u64 = 100_000;
/// Rows read at once.
const PAGE: usize = 1000;
/// An event that isn't what its publisher expects to follow.
pub(super) struct Conflict {
    /// Of the event in its batch.
    pub(super) index: usize,
    /// The position of its key's last event; 0: there is none.
    pub(super) current: u64,
}

pub(super) fn record(conn: &Connection, log: &Log, key: &str, position: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO latest (partition, key, position) VALUES (?1, ?2, ?3)")?
        .execute(params![log.id, key, signed(position)])?;
    Ok(())
}

/// The position of a key's last event that is kept.
pub(super) fn position(conn: &Connection, log: &Log, key: &str) -> rusqlite::Result<Option<u64>> {
    conn.prepare_cached("SELECT position FROM latest WHERE partition = ?1 AND key = ?2 AND position >= ?3")?
        .query_row(params![log.id, key, signed(log.floor)], |row| row.get(0).map(unsigned))
        .optional()
}

/// The first of a batch's events that expects another version than its key will have by then. `is_known`: of those that
/// were recorded before, which expect nothing any more.
pub(super) fn conflict(
    conn: &Connection,
    log: &Log,
    events: &[Prepared],
    is_known: impl Fn(usize) -> bool,
) -> rusqlite::Result<Option<Conflict>> {
    if events.iter().all(|event| event.envelope.expectedversion.is_none()) {
        return Ok(None);
    }
    let mut next = log.next;
    let (mut versions, mut ids) = (HashMap::new(), HashSet::new());
    for (index, Prepared { envelope, due, .. }) in events.iter().enumerate() {
        let is_repeated = !ids.insert((&envelope.source, &envelope.id));
        if is_known(index) || is_repeated || due.is_some() {
            continue;
        }
        let key = envelope.key();
        if let Some(expected) = envelope.expectedversion {
            let current = match versions.get(key) {
                Some(version) => *version,
                None => position(conn, log, key)?.unwrap_or(0),
            };
            if current != expected {
                return Ok(Some(Conflict { index, current }));
            }
        }
        versions.insert(key, next);
        next += 1;
    }
    Ok(None)
}

/// The events that are their key's last, in their order, after a position.
pub(super) fn page(
    conn: &Connection,
    partition: i64,
    after: u64,
    floor: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = conn.prepare_cached(
        "SELECT latest.position, log.recorded, log.envelope FROM latest
         JOIN log ON log.id = (latest.partition << 40 | latest.position)
         WHERE latest.partition = ?1 AND latest.position > ?2 AND latest.position >= ?3 ORDER BY latest.position LIMIT ?4",
    )?;
    let mut rows = statement.query(params![partition, signed(after), signed(floor), signed(limit as u64)])?;
    let mut entries = Vec::new();
    let mut read = 0;
    while read < log::PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let (position, recorded) = (unsigned(row.get(0)?), row.get(1)?);
        if let Some((envelope, bytes)) = log::decode(row.get_ref(2)?, recorded, position)? {
            read += bytes;
            entries.push(Entry { position, envelope: envelope.into(), bytes, recorded });
        }
    }
    Ok(entries)
}

/// Builds the view of a partition from what its log holds.
pub(super) fn build(conn: &Connection, log: &Log) -> rusqlite::Result<()> {
    let mut from = log.floor;
    loop {
        let entries = log.read(conn, from, PAGE)?;
        let Some(last) = entries.last() else { return Ok(()) };
        from = last.position + 1;
        for entry in &entries {
            record(conn, log, entry.envelope.key(), entry.position)?;
        }
    }
}

/// Forgets what lies below a position, which was trimmed.
pub(super) fn forget(conn: &Connection, partition: i64, below: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM latest WHERE partition = ?1 AND position < ?2")?
        .execute(params![partition, signed(below)])?;
    Ok(())
}
