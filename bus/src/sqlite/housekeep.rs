//! What is done from time to time, a bounded piece at a time: trimming the log, forgetting old dead letters, gauges.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{bookmark, dead, owned::Owned};
use crate::metrics;

/// Milliseconds between passes, and between passes while one left something to do.
const PAUSE: i64 = 5_000;
const PAUSE_WHILE_BUSY: i64 = 50;
/// A longer pause than this between passes, in milliseconds, is time in which nobody could come to claim; and how often
/// the file is told of them.
const AWAY: i64 = 600_000;
const NOTE: i64 = 60_000;

/// When the bus was kept in order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keeping {
    /// The last time, and the last that the file knows of.
    kept: i64,
    noted: i64,
    /// Since when without a pause: groups can be away only after that.
    pub(super) awake: i64,
}

impl Owned {
    pub(super) fn housekeep(&mut self, now: i64) -> rusqlite::Result<()> {
        if now < self.housekeeping_due {
            return Ok(());
        }
        self.keep(now)?;
        let busy = self.trim(now)?;
        dead::forget_old(&self.conn, now)?;
        bookmark::forget_old(&self.conn, now)?;
        for status in self.group_statuses()? {
            if let Some(group) = self.groups.get(&status.name) {
                let dead_since = if status.dead > 0 { dead::oldest(&self.conn, group.id)? } else { None };
                group.labels.gauges(&status, dead_since);
            }
        }
        self.queue_statuses().iter().for_each(metrics::queue);
        self.shared.wakes.forget();
        self.housekeeping_due = now + if busy { PAUSE_WHILE_BUSY } else { PAUSE };
        Ok(())
    }

    fn keep(&mut self, now: i64) -> rusqlite::Result<()> {
        let keeping = &mut self.keeping;
        if now - keeping.kept > AWAY {
            keeping.awake = now;
        }
        keeping.kept = now;
        if now - keeping.noted >= NOTE {
            keeping.noted = now;
            self.conn.execute("DELETE FROM keeping", [])?;
            self.conn
                .prepare_cached("INSERT INTO keeping (kept, awake) VALUES (?1, ?2)")?
                .execute(params![now, keeping.awake])?;
        }
        Ok(())
    }
}

impl Keeping {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let row = conn
            .prepare_cached("SELECT kept, awake FROM keeping")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(row.map_or_else(Self::default, |(kept, awake)| Self { kept, noted: kept, awake }))
    }
}
