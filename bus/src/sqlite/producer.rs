//! The publish numbers of the outboxes that publish into a partition.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::log;

/// Stretches of numbers whose positions are remembered; a relay has one batch in flight, so the last one would do.
const RUNS: usize = 64;

/// Consecutive numbers that were recorded at consecutive positions.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Run {
    first_no: u64,
    position: u64,
    count: u64,
}

#[derive(Default)]
struct Producer {
    last: u64,
    runs: VecDeque<Run>,
    changed: bool,
}

#[derive(Default)]
pub(super) struct Producers(HashMap<String, Producer>);

impl Producers {
    /// Those of a partition, as they are stored.
    pub(super) fn load(conn: &Connection, partition: i64) -> rusqlite::Result<Self> {
        let mut statement = conn.prepare_cached("SELECT outbox, last, runs FROM producer WHERE partition = ?1")?;
        let rows = statement.query_map([partition], |row| {
            let runs: String = row.get(2)?;
            // Runs only tell a duplicate's position: without them it is unknown.
            let runs = serde_json::from_str(&runs).unwrap_or_default();
            Ok((row.get(0)?, Producer { last: log::unsigned(row.get(1)?), runs, changed: false }))
        })?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }

    /// Each outbox, its last number, and its runs: first number, position, count.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u64, Vec<(u64, u64, u64)>)> {
        self.0.iter().map(|(outbox, producer)| {
            let runs = producer.runs.iter().map(|run| (run.first_no, run.position, run.count));
            (outbox.as_str(), producer.last, runs.collect())
        })
    }

    /// The last number of an outbox, if the bus knows any.
    pub(super) fn last(&self, outbox: &str) -> Option<u64> {
        self.0.get(outbox).map(|producer| producer.last)
    }

    /// Where a number was recorded, if that is remembered.
    pub(super) fn position(&self, outbox: &str, no: u64) -> Option<u64> {
        let runs = &self.0.get(outbox)?.runs;
        let run = runs.iter().rev().find(|run| (run.first_no..run.first_no + run.count).contains(&no))?;
        Some(run.position + (no - run.first_no))
    }

    /// `position`: None for what waits for its time.
    pub(super) fn record(&mut self, outbox: &str, no: u64, position: Option<u64>) {
        let producer = self.0.entry(outbox.to_owned()).or_default();
        producer.last = no;
        producer.changed = true;
        let Some(position) = position else { return };
        match producer.runs.back_mut() {
            Some(run) if run.first_no + run.count == no && run.position + run.count == position => run.count += 1,
            _ => producer.runs.push_back(Run { first_no: no, position, count: 1 }),
        }
        if producer.runs.len() > RUNS {
            producer.runs.pop_front();
        }
    }

    pub(super) fn store(&mut self, conn: &Connection, partition: i64) -> rusqlite::Result<()> {
        for (outbox, producer) in self.0.iter_mut().filter(|(_, producer)| producer.changed) {
            let runs = serde_json::to_string(&producer.runs).unwrap_or_default();
            conn.prepare_cached(
                "INSERT OR REPLACE INTO producer (outbox, partition, last, runs) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![outbox, partition, log::signed(producer.last), runs])?;
            producer.changed = false;
        }
        Ok(())
    }
}
