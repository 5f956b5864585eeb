//! Dead letters: buried in the transaction that settles, kept thirty days whatever the queue keeps.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::{
    log::{self, Entry, Log, signed, unsigned},
    owned::{Answer, GroupState, Owned, QueueState},
};
use crate::{DeadLetter, Error, Standing, Which, clock::moment, ledger::Record, publish};

/// How long they are kept, in milliseconds, and how many are forgotten at a time.
const KEPT: i64 = 30 * 86_400_000;
const FORGET: i64 = 1000;
/// Milliseconds between the redriven, so that they don't come all at once: a hundred a second.
const PACE: i64 = 10;

pub(super) struct Burial {
    pub(super) reason: &'static str,
    pub(super) error: String,
    pub(super) record: Record,
    pub(super) now: i64,
}

pub(super) fn bury(conn: &Connection, group: i64, log: &Log, position: u64, burial: &Burial) -> rusqlite::Result<()> {
    let history = serde_json::to_string(&burial.record.history).unwrap_or_default();
    let about = params![
        group,
        log.id,
        signed(position),
        burial.reason,
        burial.error,
        burial.record.failures,
        history,
        burial.now,
        burial.record.redrive,
    ];
    // A letter that was redriven has its row, and perhaps no longer one in the log.
    let known = conn
        .prepare_cached(
            "UPDATE dead SET reason = ?4, error = ?5, attempts = ?6, history = ?7, died = ?8, redrive = ?9, redriven = 0
             WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3",
        )?
        .execute(about)?;
    if known == 0 {
        conn.prepare_cached(
            "INSERT INTO dead (consumer_group, partition, position, recorded, envelope, reason, error, attempts, history,
             died, redrive) SELECT ?1, ?2, ?3, recorded, envelope, ?4, ?5, ?6, ?7, ?8, ?9 FROM log WHERE id = (?2 << 40) | ?3",
        )?
        .execute(about)?;
    }
    Ok(())
}

/// When the oldest of a group's dead letters died; looks at a thousand.
pub(super) fn oldest(conn: &Connection, group: i64) -> rusqlite::Result<Option<time::OffsetDateTime>> {
    let sql = "SELECT min(died) FROM (SELECT died FROM dead WHERE consumer_group = ?1 AND redriven = 0 LIMIT 1000)";
    let died: Option<i64> = conn.prepare_cached(sql)?.query_row([group], |row| row.get(0))?;
    Ok(died.map(moment))
}

pub(super) fn forget(conn: &Connection, group: i64, partition: i64, position: u64) -> rusqlite::Result<bool> {
    let forgotten = conn
        .prepare_cached("DELETE FROM dead WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3")?
        .execute(params![group, partition, signed(position)])?;
    Ok(forgotten > 0)
}

/// The event of a letter that was redriven after the log had trimmed it.
pub(super) fn envelope(
    conn: &Connection,
    group: i64,
    partition: i64,
    position: u64,
) -> rusqlite::Result<Option<Entry>> {
    let entry = conn
        .prepare_cached(
            "SELECT envelope, recorded FROM dead WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3",
        )?
        .query_row(params![group, partition, signed(position)], |row| {
            let recorded = row.get(1)?;
            Ok(log::decode(row.get_ref(0)?, recorded, position)?.map(|(envelope, bytes)| Entry {
                position,
                envelope: Arc::new(envelope),
                bytes,
                recorded,
            }))
        })
        .optional()?;
    Ok(entry.flatten())
}

/// What an event stands as if it is a dead letter.
pub(super) fn standing(
    conn: &Connection,
    group: i64,
    partition: i64,
    position: u64,
) -> rusqlite::Result<Option<Standing>> {
    conn.prepare_cached(
        "SELECT reason, died FROM dead
         WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3 AND redriven = 0",
    )?
    .query_row(params![group, partition, signed(position)], |row| {
        Ok(Standing::Dead { reason: row.get(0)?, at: moment(row.get(1)?) })
    })
    .optional()
}

pub(super) fn count(conn: &Connection, group: i64) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM dead WHERE consumer_group = ?1 AND redriven = 0")?
        .query_row([group], |row| row.get(0))
        .map(unsigned)
}

/// Forgets some of the letters that were kept long enough; one that blocks stays.
pub(super) fn forget_old(conn: &Connection, now: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM dead WHERE (consumer_group, partition, position) IN
         (SELECT consumer_group, partition, position FROM dead WHERE died < ?1 AND redriven = 0 AND NOT EXISTS
          (SELECT 1 FROM unsettled WHERE unsettled.consumer_group = dead.consumer_group
           AND unsettled.partition = dead.partition AND unsettled.position = dead.position) LIMIT ?2)",
    )?
    .execute([now - KEPT, FORGET])?;
    Ok(())
}

impl Owned {
    pub(super) fn dead_letters(&mut self, name: &str, after: (u32, u64), limit: usize) -> Answer<Vec<DeadLetter>> {
        let Some((group, queue)) = self.group_and_queue(name) else {
            return Ok(Err(Error::NoGroup(name.to_owned())));
        };
        let mut letters = Vec::new();
        for (number, partition) in (0_u32..).zip(&queue.partitions).skip(after.0 as usize) {
            let after = if number == after.0 { after.1 } else { 0 };
            let mut statement = self.conn.prepare_cached(
                "SELECT position, recorded, envelope, reason, error, attempts, history, died, redrive FROM dead
                 WHERE consumer_group = ?1 AND partition = ?2 AND position > ?3 AND redriven = 0
                 ORDER BY position LIMIT ?4",
            )?;
            let room = signed((limit - letters.len()) as u64);
            let mut rows = statement.query(params![group.id, partition.log.id, signed(after), room])?;
            while let Some(row) = rows.next()? {
                let position = unsigned(row.get(0)?);
                let Some((envelope, _)) = log::decode(row.get_ref(2)?, row.get(1)?, position)? else { continue };
                letters.push(DeadLetter {
                    partition: number,
                    position,
                    envelope: Arc::new(envelope),
                    reason: row.get(3)?,
                    error: row.get(4)?,
                    attempts: row.get(5)?,
                    history: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
                    died: moment(row.get(7)?),
                    redrive: row.get(8)?,
                });
            }
        }
        Ok(Ok(letters))
    }

    pub(super) fn redrive(&mut self, name: &str, which: &Which, now: i64) -> Answer<u64> {
        let chosen = match self.chosen(name, which)? {
            Ok(chosen) => chosen,
            Err(error) => return Ok(Err(error)),
        };
        let Some(group) = self.groups.get_mut(name) else { return Ok(Ok(0)) };
        let Some(queue) = self.queues.get(&group.group.filter.queue) else { return Ok(Ok(0)) };
        let mut redriven = 0;
        for (number, position) in chosen {
            let (partition, ledger) = (&queue.partitions[number], &mut group.ledgers[number]);
            if ledger.is_full() && !ledger.is_blocking(position) {
                continue;
            }
            // A seek brought it back already.
            if ledger.holds(position) {
                continue;
            }
            let Some(entry) = envelope(&self.conn, group.id, partition.log.id, position)? else { continue };
            let redrive: u32 = self
                .conn
                .prepare_cached(
                    "UPDATE dead SET redriven = 1, redrive = redrive + 1
                     WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3 RETURNING redrive",
                )?
                .query_row(params![group.id, partition.log.id, signed(position)], |row| row.get(0))?;
            let at = now + PACE * redriven;
            ledger.redrive(position, publish::hash(entry.envelope.key()), redrive, at);
            redriven += 1;
        }
        group.woken = true;
        Ok(Ok(unsigned(redriven)))
    }

    pub(super) fn discard(&mut self, name: &str, which: &Which) -> Answer<u64> {
        let mut discarded = 0;
        loop {
            let chosen = match self.chosen(name, which)? {
                Ok(chosen) => chosen,
                Err(error) => return Ok(Err(error)),
            };
            let Some(group) = self.groups.get_mut(name) else { return Ok(Ok(0)) };
            let Some(queue) = self.queues.get(&group.group.filter.queue) else { return Ok(Ok(0)) };
            for (number, position) in &chosen {
                let partition = queue.partitions[*number].log.id;
                forget(&self.conn, group.id, partition, *position)?;
                group.ledgers[*number].discard(*position);
                tracing::info!(group = name, partition = number, position, "dead letter discarded");
            }
            (group.woken, group.settled) = (true, true);
            discarded += chosen.len() as u64;
            if chosen.is_empty() {
                return Ok(Ok(discarded));
            }
        }
    }

    /// The letters meant, as (partition, position), of those that are there and not with their group again: the named ones, or
    /// some of all.
    fn chosen(&self, name: &str, which: &Which) -> Answer<Vec<(usize, u64)>> {
        let Some((group, queue)) = self.group_and_queue(name) else {
            return Ok(Err(Error::NoGroup(name.to_owned())));
        };
        let mut chosen = Vec::new();
        if let Which::These(these) = which {
            for (number, position) in these.iter().copied().collect::<BTreeSet<_>>() {
                let Some(partition) = queue.partitions.get(number as usize) else { continue };
                if standing(&self.conn, group.id, partition.log.id, position)?.is_some() {
                    chosen.push((number as usize, position));
                }
            }
            return Ok(Ok(chosen));
        }
        for (number, partition) in queue.partitions.iter().enumerate() {
            let mut statement = self.conn.prepare_cached(
                "SELECT position FROM dead WHERE consumer_group = ?1 AND partition = ?2 AND redriven = 0
                 ORDER BY position LIMIT ?3",
            )?;
            let limit = signed(crate::lease::UNSETTLED as u64);
            let positions: Vec<i64> = statement
                .query_map(params_from_iter([group.id, partition.log.id, limit]), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            chosen.extend(positions.into_iter().map(|position| (number, unsigned(position))));
        }
        Ok(Ok(chosen))
    }

    pub(super) fn group_and_queue(&self, name: &str) -> Option<(&GroupState, &QueueState)> {
        let group = self.groups.get(name)?;
        Some((group, self.queues.get(&group.group.filter.queue)?))
    }
}
