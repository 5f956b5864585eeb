//! From the database to the state in memory: at opening, and after a transaction that failed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use events::Name;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;

use super::{
    dedupe::Window,
    log::{Log, position, row, signed, unsigned},
    owned::{Deaths, GroupState, PartitionState, QueueState},
    producer::Producers,
    schedule::Waiting,
    store,
};
use crate::{Group, Lineage, Lineages, Mode, Overflow, Queue, ledger::Ledger, metrics, policy::Policy};

type State = (HashMap<Name, QueueState>, BTreeMap<String, GroupState>);

/// Lineages that are remembered, a partition; a cursor of a forgotten one counts as of an unknown log. Those under which
/// nothing was recorded are forgotten first: nobody sends anything again because of them.
const LINEAGES: i64 = 256;

pub(super) fn load(conn: &Connection, dedupe_capacity: usize, now: i64) -> rusqlite::Result<State> {
    let mut queues = HashMap::new();
    let mut statement = conn.prepare_cached(
        "SELECT name, partitions, max_age_ms, max_bytes, max_len, overflow, dedupe_ms, latest, realtime, journal FROM queue",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(name) = Name::new(&row.get::<_, String>(0)?) else { continue };
        let settings = Queue {
            name: name.clone(),
            partitions: row.get(1)?,
            max_age: Duration::from_millis(unsigned(row.get(2)?)),
            max_bytes: row.get::<_, Option<i64>>(3)?.map(unsigned),
            max_len: row.get::<_, Option<i64>>(4)?.map(unsigned),
            overflow: Overflow::parse(&row.get::<_, String>(5)?).unwrap_or_default(),
            dedupe: Duration::from_millis(unsigned(row.get(6)?)),
            latest: row.get(7)?,
            realtime: row.get(8)?,
            journal: row.get(9)?,
        };
        queues.insert(name, queue(conn, settings, dedupe_capacity, now)?);
    }
    let mut groups = BTreeMap::new();
    let mut statement =
        conn.prepare_cached("SELECT id, name, filter, mode, lease_ms, generation, policy FROM consumer_group")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (Ok(filter), Some(mode)) = (row.get::<_, String>(2)?.parse(), mode(&row.get::<_, String>(3)?)) else {
            continue;
        };
        let mut group = Group::new(&row.get::<_, String>(1)?, filter, mode);
        group.lease = Duration::from_millis(unsigned(row.get(4)?));
        if let Ok(policy) = serde_json::from_str::<Policy>(&row.get::<_, String>(6)?) {
            group = policy.of(group);
        }
        let Some(queue) = queues.get(&group.filter.queue) else { continue };
        let state = self::group(conn, row.get(0)?, group, row.get(5)?, queue)?;
        groups.insert(state.group.name.clone(), state);
    }
    Ok((queues, groups))
}

/// When the newest of all events was recorded.
pub(super) fn last_recorded(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(
        "SELECT max((SELECT recorded FROM log WHERE log.id >= partition.id << 40 AND log.id < (partition.id + 1) << 40
         ORDER BY log.id DESC LIMIT 1)) FROM partition",
    )?
    .query_row([], |row| row.get(0))
}

/// A queue's partitions, as they are stored.
pub(super) fn queue(
    conn: &Connection,
    settings: Queue,
    dedupe_capacity: usize,
    now: i64,
) -> rusqlite::Result<QueueState> {
    let mut statement = conn.prepare_cached("SELECT id, floor FROM partition WHERE queue = ?1 ORDER BY number")?;
    let rows: Vec<(i64, i64)> = statement
        .query_map([settings.name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let partitions = rows
        .into_iter()
        .map(|(id, floor)| {
            let lineages = lineages(conn, id)?;
            let last: Option<i64> = conn
                .prepare_cached("SELECT max(id) FROM log WHERE id >= ?1 AND id < ?2")?
                .query_row([row(id, 0), row(id + 1, 0)], |row| row.get(0))?;
            let next = last
                .map_or(1, |last| position(last) + 1)
                .max(unsigned(floor))
                .max(lineages.current().map_or(1, |lineage| lineage.first));
            let mut log = Log::new(id, unsigned(floor), next, lineages);
            log.weigh(conn)?;
            let dedupe = window(conn, &log, &settings, dedupe_capacity, now)?;
            let (producers, waiting) = (Producers::load(conn, id)?, Waiting::load(conn, id)?);
            Ok(PartitionState { log, dedupe, producers, waiting, told: HashMap::new() })
        })
        .collect::<rusqlite::Result<_>>()?;
    Ok(QueueState { settings, partitions })
}

/// A group's ledgers, as they are stored; one of a partition that is new to the group begins at its oldest event.
pub(super) fn group(
    conn: &Connection,
    id: i64,
    group: Group,
    generation: u32,
    queue: &QueueState,
) -> rusqlite::Result<GroupState> {
    let ledgers = queue
        .partitions
        .iter()
        .map(|partition| {
            let place: Option<(i64, i64, Option<String>)> = conn
                .prepare_cached("SELECT start, next, lost FROM progress WHERE consumer_group = ?1 AND partition = ?2")?
                .query_row([id, partition.log.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            Ok(match place {
                Some((start, next, lost)) => {
                    let records = store::records(conn, id, partition.log.id)?;
                    let lost = lost.and_then(|lost| serde_json::from_str(&lost).ok()).unwrap_or_default();
                    let ledger = Ledger::restore(group.mode, unsigned(start), unsigned(next), records);
                    ledger
                        .with_lost(lost)
                        .with_on_dead(group.on_dead)
                        .with_retry(group.retry)
                        .with_most(group.in_flight)
                }
                None => {
                    let ledger = Ledger::new(group.mode, partition.log.floor);
                    ledger.with_on_dead(group.on_dead).with_retry(group.retry).with_most(group.in_flight)
                }
            })
        })
        .collect::<rusqlite::Result<_>>()?;
    let labels = metrics::GroupLabels::new(&group.name);
    let (claimed, abandoned, count, told) = conn
        .prepare_cached("SELECT claimed, abandoned, deaths, mourned FROM consumer_group WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(GroupState {
        id,
        group,
        generation,
        ledgers,
        turn: 0,
        woken: true,
        settled: false,
        claimed,
        abandoned,
        deaths: Deaths { count, told, is_new: false },
        labels,
    })
}

pub(super) fn new_lineage(conn: &Connection, log: &mut Log, id: u64) -> rusqlite::Result<()> {
    let parent = log.lineages.current().map(|lineage| lineage.id);
    conn.prepare_cached("INSERT INTO lineage (partition, id, first, parent) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![log.id, signed(id), signed(log.next), parent.map(signed)])?;
    conn.prepare_cached(
        "DELETE FROM lineage WHERE ordinal IN (
             SELECT ordinal FROM (
                 SELECT ordinal, first = lead(first) OVER (ORDER BY ordinal) AS empty FROM lineage WHERE partition = ?1
             ) ORDER BY empty DESC, ordinal
             LIMIT max(0, (SELECT count(*) FROM lineage WHERE partition = ?1) - ?2))",
    )?
    .execute([log.id, LINEAGES])?;
    log.set_lineages(lineages(conn, log.id)?);
    Ok(())
}

fn lineages(conn: &Connection, partition: i64) -> rusqlite::Result<Lineages> {
    let mut statement =
        conn.prepare_cached("SELECT id, first, parent FROM lineage WHERE partition = ?1 ORDER BY ordinal")?;
    let rows = statement.query_map([partition], |row| {
        Ok(Lineage {
            id: unsigned(row.get(0)?),
            first: unsigned(row.get(1)?),
            parent: row.get::<_, Option<i64>>(2)?.map(unsigned),
        })
    })?;
    Ok(Lineages(rows.collect::<Result<_, _>>()?))
}

/// The part of an envelope that dedupe looks at.
#[derive(Deserialize)]
struct Identity {
    source: String,
    id: String,
}

fn window(conn: &Connection, log: &Log, settings: &Queue, capacity: usize, now: i64) -> rusqlite::Result<Window> {
    let mut window = Window::new(capacity, settings.dedupe);
    let oldest = log.position_at(conn, now - window.reach() + 1)?.max(log.next.saturating_sub(capacity as u64));
    let mut statement =
        conn.prepare_cached("SELECT id, recorded, envelope FROM log WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = statement.query([row(log.id, oldest), row(log.id, log.next)])?;
    while let Some(found) = rows.next()? {
        if let Ok(identity) = serde_json::from_slice::<Identity>(found.get_ref(2)?.as_blob()?) {
            let hash = window.hash(&identity.source, &identity.id);
            window.insert(hash, position(found.get(0)?), found.get(1)?);
        }
    }
    Ok(window)
}

pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Parallel => "parallel",
        Mode::Keyed => "keyed",
        Mode::Exclusive => "exclusive",
    }
}

fn mode(name: &str) -> Option<Mode> {
    [Mode::Parallel, Mode::Keyed, Mode::Exclusive].into_iter().find(|mode| mode_name(*mode) == name)
}
