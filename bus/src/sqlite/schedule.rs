//! Events that wait for their time: a row each, recorded when they are due, a bounded piece a transaction, so that what
//! is published meanwhile doesn't wait for all of them.

use events::{Envelope, Name};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    latest,
    log::{signed, unsigned},
    owned::{Owned, PartitionState},
};
use crate::{
    Recorded, Scheduled, Turn,
    clock::moment,
    schedule::{PIECE, PIECE_BYTES},
};

/// What waits in a partition: how many, and when the first of them is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    pub(super) count: usize,
    pub(super) due: Option<i64>,
}

impl Waiting {
    pub(super) fn load(conn: &Connection, partition: i64) -> rusqlite::Result<Self> {
        conn.prepare_cached("SELECT count(*), min(due) FROM scheduled WHERE partition = ?1")?
            .query_row([partition], |row| Ok(Self { count: row.get::<_, u32>(0)? as usize, due: row.get(1)? }))
    }
}

/// When the event of this source and id is due, if it waits.
pub(super) fn due(conn: &Connection, partition: i64, source: &str, id: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT due FROM scheduled WHERE partition = ?1 AND source = ?2 AND event = ?3")?
        .query_row(params![partition, source, id], |row| row.get(0))
        .optional()
}

impl PartitionState {
    /// Records an event at the next position.
    pub(super) fn append(
        &mut self,
        conn: &Connection,
        envelope: Envelope,
        json: &[u8],
        now: i64,
        latest: bool,
    ) -> rusqlite::Result<u64> {
        let hash = self.dedupe.hash(&envelope.source, &envelope.id);
        let position = self.log.next;
        if latest {
            latest::record(conn, &self.log, envelope.key(), position)?;
        }
        self.log.append(conn, envelope, json, now)?;
        self.dedupe.insert(hash, position, now);
        Ok(position)
    }

    /// Has an event wait until it is due.
    pub(super) fn schedule(
        &mut self,
        conn: &Connection,
        envelope: &Envelope,
        json: &[u8],
        due: i64,
    ) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO scheduled (partition, due, source, event, envelope) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![self.log.id, due, envelope.source, envelope.id, json])?;
        self.waiting.count += 1;
        self.waiting.due = Some(self.waiting.due.map_or(due, |first| first.min(due)));
        Ok(())
    }

    /// Records a piece of what is due, in the order of time, then of arrival; how many.
    fn deliver(&mut self, conn: &Connection, now: i64, latest: bool) -> rusqlite::Result<usize> {
        let mut statement = conn.prepare_cached(
            "SELECT id, envelope FROM scheduled WHERE partition = ?1 AND due <= ?2 ORDER BY due, id LIMIT ?3",
        )?;
        let mut rows = statement.query(params![self.log.id, now, signed(PIECE as u64)])?;
        let (mut delivered, mut bytes) = (0, 0);
        while bytes < PIECE_BYTES
            && let Some(row) = rows.next()?
        {
            let (id, json): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            match serde_json::from_slice::<Envelope>(&json) {
                Ok(envelope) => {
                    self.append(conn, envelope, &json, now, latest)?;
                }
                Err(error) => tracing::error!(%error, "an event that is due can't be read"),
            }
            conn.prepare_cached("DELETE FROM scheduled WHERE id = ?1")?.execute([id])?;
            delivered += 1;
            bytes += json.len();
        }
        self.waiting = Waiting::load(conn, self.log.id)?;
        Ok(delivered)
    }
}

impl Owned {
    /// Records what is due, a piece a partition.
    pub(super) fn deliver(&mut self, now: i64) -> rusqlite::Result<()> {
        for (name, queue) in &mut self.queues {
            for partition in &mut queue.partitions {
                if partition.waiting.due.is_some_and(|due| due <= now) {
                    let delivered = partition.deliver(&self.conn, now, queue.settings.latest)?;
                    crate::metrics::due(name, delivered as u64);
                }
            }
        }
        Ok(())
    }

    pub(super) fn find(
        &mut self,
        queue: &Name,
        source: &str,
        id: &str,
        now: i64,
    ) -> rusqlite::Result<Option<Recorded>> {
        let Some(queue) = self.queues.get_mut(queue) else { return Ok(None) };
        for (number, partition) in (0..).zip(&mut queue.partitions) {
            let hash = partition.dedupe.hash(source, id);
            let position = partition.dedupe.find(hash, now);
            let due = if position.is_none() { due(&self.conn, partition.log.id, source, id)? } else { None };
            if position.is_none() && due.is_none() {
                continue;
            }
            let lineages = &partition.log.lineages;
            let lineage = position.and_then(|position| lineages.of(position)).or(lineages.current());
            return Ok(Some(Recorded {
                partition: number,
                lineage: lineage.map_or(0, |lineage| lineage.id),
                position,
                due: due.map(moment),
                duplicate: true,
                confirmed: crate::Confirm::Stored,
            }));
        }
        Ok(None)
    }

    pub(super) fn cancel(&mut self, queue: &Name, source: &str, id: &str) -> rusqlite::Result<bool> {
        let Some(queue) = self.queues.get_mut(queue) else { return Ok(false) };
        let mut cancelled = 0;
        for partition in &mut queue.partitions {
            let gone = self
                .conn
                .prepare_cached("DELETE FROM scheduled WHERE partition = ?1 AND source = ?2 AND event = ?3")?
                .execute(params![partition.log.id, source, id])?;
            if gone > 0 {
                partition.waiting = Waiting::load(&self.conn, partition.log.id)?;
            }
            cancelled += gone;
        }
        Ok(cancelled > 0)
    }

    pub(super) fn scheduled(
        &self,
        queue: &Name,
        after: Option<Turn>,
        limit: usize,
    ) -> rusqlite::Result<Vec<Scheduled>> {
        let mut scheduled = Vec::new();
        let Some(queue) = self.queues.get(queue) else { return Ok(scheduled) };
        let first = after.map_or(0, |after| after.partition);
        for (number, partition) in (0..).zip(&queue.partitions).skip(first as usize) {
            let after = after.filter(|after| after.partition == number);
            let mut statement = self.conn.prepare_cached(
                "SELECT due, id, envelope FROM scheduled WHERE partition = ?1 AND (due, id) > (?2, ?3)
                 ORDER BY due, id LIMIT ?4",
            )?;
            let left = limit - scheduled.len();
            let (due, arrival) = after.map_or((i64::MIN, 0), |after| (after.due, signed(after.arrival)));
            let mut rows = statement.query(params![partition.log.id, due, arrival, signed(left as u64)])?;
            while let Some(row) = rows.next()? {
                let due: i64 = row.get(0)?;
                if let Ok(envelope) = serde_json::from_slice::<Envelope>(row.get_ref(2)?.as_blob()?) {
                    let turn = Turn { partition: number, due, arrival: unsigned(row.get(1)?) };
                    scheduled.push(Scheduled { turn, due: moment(due), envelope: envelope.into() });
                }
            }
        }
        Ok(scheduled)
    }
}
