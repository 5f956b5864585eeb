//! Writing down queues' settings, and what changed in the groups' ledgers, at the end of a transaction.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::{
    log::{signed, unsigned},
    owned::Owned,
};
use crate::{
    Queue,
    ledger::{Ledger, Record, State},
};

const UPSERT: &str =
    "INSERT OR REPLACE INTO unsettled (consumer_group, partition, position, state, due, secret, member,
    key, failures, expiries, suspect, first_delivered, redrive, history)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// A queue's settings.
pub(super) fn queue(conn: &Connection, queue: &Queue) -> rusqlite::Result<()> {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO queue (name, partitions, max_age_ms, max_bytes, max_len, overflow, dedupe_ms, latest,
         realtime, journal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        queue.name.as_str(),
        queue.partitions,
        millis(queue.max_age),
        queue.max_bytes.map(signed),
        queue.max_len.map(signed),
        queue.overflow.as_str(),
        millis(queue.dedupe),
        queue.latest,
        queue.realtime,
        queue.journal,
    ])?;
    Ok(())
}

pub(super) fn ledgers(core: &mut Owned) -> rusqlite::Result<()> {
    for group in core.groups.values_mut() {
        let Some(queue) = core.queues.get(&group.group.filter.queue) else { continue };
        for (ledger, partition) in group.ledgers.iter_mut().zip(&queue.partitions) {
            if ledger.has_changes() {
                ledger_changes(&core.conn, group.id, partition.log.id, ledger)?;
            }
        }
    }
    for partition in core.queues.values_mut().flat_map(|queue| &mut queue.partitions) {
        partition.producers.store(&core.conn, partition.log.id)?;
    }
    Ok(())
}

fn ledger_changes(conn: &Connection, group: i64, partition: i64, ledger: &mut Ledger) -> rusqlite::Result<()> {
    let start = ledger.start();
    let (records, next) = ledger.take_changes();
    for (position, record) in records {
        match record {
            Some(record) => upsert(conn, group, partition, position, record)?,
            None => {
                conn.prepare_cached(
                    "DELETE FROM unsettled WHERE consumer_group = ?1 AND partition = ?2 AND position = ?3",
                )?
                .execute(params![group, partition, signed(position)])?;
            }
        }
    }
    if let Some(next) = next {
        conn.prepare_cached(
            "INSERT INTO progress (consumer_group, partition, start, next) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET start = excluded.start, next = excluded.next",
        )?
        .execute(params![group, partition, signed(start), signed(next)])?;
    }
    if ledger.take_lost_changes() {
        let lost = serde_json::to_string(ledger.lost()).unwrap_or_default();
        conn.prepare_cached(
            "INSERT INTO progress (consumer_group, partition, start, next, lost) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET lost = excluded.lost",
        )?
        .execute(params![group, partition, signed(start), signed(ledger.next()), lost])?;
    }
    Ok(())
}

fn upsert(conn: &Connection, group: i64, partition: i64, position: u64, record: &Record) -> rusqlite::Result<()> {
    let (state, due, secret, member) = match &record.state {
        State::Ready => (0, 0, 0, None),
        State::Leased { secret, member, until } => (1, *until, signed(*secret), Some(member.as_ref())),
        State::Retrying { at } => (2, *at, 0, None),
        State::Parked => (3, 0, 0, None),
        State::Dead => (4, 0, 0, None),
    };
    let history = (!record.history.is_empty()).then(|| serde_json::to_string(&record.history).unwrap_or_default());
    conn.prepare_cached(UPSERT)?.execute(params![
        group,
        partition,
        signed(position),
        state,
        due,
        secret,
        member,
        signed(record.key),
        record.failures,
        record.expiries,
        record.suspect,
        record.first_delivered,
        record.redrive,
        history,
    ])?;
    Ok(())
}

/// The records of a group and partition.
pub(super) fn records(conn: &Connection, group: i64, partition: i64) -> rusqlite::Result<Vec<(u64, Record)>> {
    let mut statement = conn.prepare_cached(
        "SELECT position, state, due, secret, member, key, failures, expiries, suspect, first_delivered, redrive, history
         FROM unsettled WHERE consumer_group = ?1 AND partition = ?2 ORDER BY position",
    )?;
    let rows = statement.query_map(params![group, partition], |row| {
        let due = row.get(2)?;
        let state = match row.get::<_, i64>(1)? {
            1 => State::Leased {
                secret: unsigned(row.get(3)?),
                member: row.get::<_, Option<String>>(4)?.unwrap_or_default().into(),
                until: due,
            },
            2 => State::Retrying { at: due },
            3 => State::Parked,
            4 => State::Dead,
            _ => State::Ready,
        };
        let history: Option<String> = row.get(11)?;
        let record = Record {
            state,
            key: unsigned(row.get(5)?),
            failures: row.get(6)?,
            expiries: row.get(7)?,
            suspect: row.get(8)?,
            first_delivered: row.get(9)?,
            redrive: row.get(10)?,
            history: history.and_then(|history| serde_json::from_str(&history).ok()).unwrap_or_default(),
        };
        Ok((unsigned(row.get(0)?), record))
    })?;
    rows.collect()
}
