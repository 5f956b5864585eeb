//! A file that nobody has open, read as it stands for a copy: what it holds, a piece at a time. Nothing of it changes.

use std::{fs::File, path::Path, sync::Arc};

use anyhow::Context as _;
use events::Envelope;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{
    bookmark, load, lock,
    log::{self, Entry, position, row, signed, unsigned},
    schema,
};
use crate::{
    Queue,
    clock::{Clock as _, SystemClock, millis},
    copy::{Buried, GroupPart, Outbox, Place, QueuePart, Raw},
    ledger::{Record, State},
};

/// A queue's settings and its partitions, by number.
type QueueParts = (Queue, Vec<QueuePart>);

/// A file and the lock on it.
pub(crate) struct Source {
    conn: Connection,
    _lock: File,
}

impl Source {
    /// # Errors
    /// If there is no such file, another process has it open, it can't be read, or it is of another version.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        // Taking the lock makes a file; a folder that holds no bus must stay as it is.
        anyhow::ensure!(path.is_file(), "{}: there is no such file", path.display());
        let lock = lock::acquire(path)?;
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("{} can't be opened", path.display()))?;
        schema::is_current(&conn).with_context(|| path.display().to_string())?;
        Ok(Self { conn, _lock: lock })
    }

    /// Its queues with their partitions, and its groups with their places; by name. Leases are over: whoever held them is gone.
    pub(crate) fn state(&self) -> rusqlite::Result<(Vec<QueueParts>, Vec<GroupPart>)> {
        // The window is made of the log by whoever takes it in.
        let (queues, groups) = load::load(&self.conn, 1, millis(SystemClock.now()))?;
        let mut parts = Vec::new();
        for queue in queues.values() {
            let partitions = queue.partitions.iter().map(|partition| {
                let log = &partition.log;
                Ok(QueuePart {
                    id: log.id,
                    floor: log.floor,
                    next: log.next,
                    bytes: log.bytes,
                    lineages: log.lineages.clone(),
                    recorded: self.last_recorded(log.id)?,
                    outboxes: partition
                        .producers
                        .all()
                        .map(|(name, last, runs)| Outbox { name: name.to_owned(), last, runs })
                        .collect(),
                })
            });
            parts.push((queue.settings.clone(), partitions.collect::<rusqlite::Result<_>>()?));
        }
        parts.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let groups = groups.into_values().map(|mut state| {
            state.ledgers.iter_mut().for_each(crate::ledger::Ledger::expire_all);
            GroupPart {
                id: state.id,
                group: state.group,
                generation: state.generation,
                ledgers: state.ledgers,
                claimed: state.claimed,
                abandoned: state.abandoned,
                deaths: state.deaths.count,
                mourned: state.deaths.told,
            }
        });
        Ok((parts, groups.collect()))
    }

    fn last_recorded(&self, partition: i64) -> rusqlite::Result<i64> {
        let sql = "SELECT recorded FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1";
        let found =
            self.conn.prepare_cached(sql)?.query_row([row(partition, 0), row(partition + 1, 0)], |row| row.get(0));
        Ok(found.optional()?.unwrap_or(0))
    }

    /// Events of a partition from a position on, as they are stored: at most so many, and no more bytes than these unless
    /// it is one.
    pub(crate) fn events(
        &self,
        partition: i64,
        from: u64,
        to: u64,
        most: usize,
        bytes: usize,
    ) -> rusqlite::Result<Vec<Raw>> {
        let sql = "SELECT id, recorded, envelope FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params![row(partition, from), row(partition, to), signed(most as u64)])?;
        let (mut events, mut sum): (Vec<Raw>, usize) = (Vec::new(), 0);
        while let Some(found) = rows.next()? {
            let json = found.get_ref(2)?.as_blob()?;
            sum += json.len();
            if sum > bytes && !events.is_empty() {
                break;
            }
            events.push(Raw { position: position(found.get(0)?), recorded: found.get(1)?, json: json.to_vec() });
        }
        Ok(events)
    }

    /// A group's dead letters of a partition after a position, also those that are with the group again.
    pub(crate) fn letters(&self, group: i64, partition: i64, after: u64, most: usize) -> rusqlite::Result<Vec<Buried>> {
        let sql =
            "SELECT position, recorded, envelope, reason, error, attempts, history, died, redrive, redriven FROM dead
                   WHERE consumer_group = ?1 AND partition = ?2 AND position > ?3 ORDER BY position LIMIT ?4";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params![group, partition, signed(after), signed(most as u64)])?;
        let mut letters = Vec::new();
        while let Some(found) = rows.next()? {
            let (position, recorded) = (unsigned(found.get(0)?), found.get(1)?);
            let event = log::decode(found.get_ref(2)?, recorded, position)?;
            let history: String = found.get(6)?;
            letters.push(Buried {
                position,
                entry: event.map(|(envelope, bytes)| Entry { position, envelope: Arc::new(envelope), bytes, recorded }),
                reason: found.get(3)?,
                error: found.get(4)?,
                record: Record {
                    state: State::Dead,
                    failures: found.get(5)?,
                    history: serde_json::from_str(&history).unwrap_or_default(),
                    redrive: found.get(8)?,
                    ..Record::new(0)
                },
                died: found.get(7)?,
                redriven: found.get(9)?,
            });
        }
        Ok(letters)
    }

    /// How many bookmarks there are.
    pub(crate) fn count_bookmarks(&self) -> rusqlite::Result<u64> {
        bookmark::count(&self.conn, millis(SystemClock.now()))
    }

    /// Bookmarks after the one of a user by a name, in that order.
    pub(crate) fn bookmarks(&self, after: Option<&(String, String)>, most: usize) -> rusqlite::Result<Vec<Place>> {
        bookmark::after(&self.conn, after, most, millis(SystemClock.now()))
    }

    /// How many dead letters there are, in all and with their group again.
    pub(crate) fn count_letters(&self, group: i64, partition: i64) -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT count(*), coalesce(sum(redriven), 0) FROM dead WHERE consumer_group = ?1 AND partition = ?2";
        self.conn
            .prepare_cached(sql)?
            .query_row([group, partition], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))
    }

    /// How many events of a partition there are.
    pub(crate) fn count(&self, partition: i64) -> rusqlite::Result<u64> {
        let sql = "SELECT count(*) FROM log WHERE id >= ?1 AND id < ?2";
        self.conn
            .prepare_cached(sql)?
            .query_row([row(partition, 0), row(partition + 1, 0)], |row| row.get(0))
            .map(unsigned)
    }

    /// The bytes of the events of a partition that come before a position.
    pub(crate) fn bytes(&self, partition: i64, before: u64) -> rusqlite::Result<u64> {
        log::weight(&self.conn, partition, 0, before)
    }

    /// Some of the events that wait for their time, in the order in which they came, after a row; each with its row.
    pub(crate) fn scheduled(&self, after: i64, most: usize) -> rusqlite::Result<Vec<(i64, Envelope)>> {
        let there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'scheduled'";
        if self.conn.prepare_cached(there)?.query_row([], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Vec::new());
        }
        let mut statement =
            self.conn.prepare_cached("SELECT id, envelope FROM scheduled WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let mut rows = statement.query(params![after, signed(most as u64)])?;
        let mut events = Vec::new();
        while let Some(found) = rows.next()? {
            if let Ok(envelope) = serde_json::from_slice(found.get_ref(1)?.as_blob()?) {
                events.push((found.get(0)?, envelope));
            }
        }
        Ok(events)
    }
}
