//! What the relay reads and writes. Every write is under the lease; [`Written::LeaseLost`] wrote nothing.

use std::collections::BTreeMap;

use bus::Lineages;
use database::{Database, Error, Transaction, params};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    lease::Lease,
    row::{Sent, Stamped, Stream, Unstamped, name},
};

/// How many rows a step handles at most: what one publish may hold.
pub(crate) const BATCH: i64 = 256;

/// How long a row is kept after the bus has recorded it: as long as the bus may lose it.
const KEPT: Duration = Duration::days(7);

/// The most rows one [`Store::trim`] removes.
pub(crate) const TRIM_STEP: u64 = 1_000;

#[must_use]
pub(crate) enum Written<T> {
    Done(T),
    LeaseLost,
}

pub(crate) struct Store {
    pub database: Database,
}

impl Store {
    /// When the oldest row was appended that the bus doesn't have.
    pub async fn oldest_unsent(&self) -> Result<Option<OffsetDateTime>, Error> {
        let sql = "SELECT created_at FROM outbox WHERE sent_at IS NULL ORDER BY seq LIMIT 1";
        self.database.query(sql, &[]).await?.first().map(|row| row.get("created_at")).transpose()
    }

    /// Rows without a number, in the order in which they get one.
    pub async fn unstamped(&self) -> Result<Vec<Unstamped>, Error> {
        let sql =
            "SELECT seq, queue, key FROM outbox WHERE sent_at IS NULL AND publish_no IS NULL ORDER BY seq LIMIT $1";
        let rows = self.database.query(sql, params![BATCH]).await?;
        let read = |row: &database::Row| {
            Ok(Unstamped { seq: row.get("seq")?, queue: name(row, "queue")?, key: row.get("key")? })
        };
        rows.iter().map(read).collect()
    }

    /// Gives rows their partitions' next numbers.
    pub async fn stamp(
        &self,
        lease: &Lease,
        now: OffsetDateTime,
        rows: &[(i64, Stream)],
    ) -> Result<Written<()>, Error> {
        let mut tx = self.database.begin().await?;
        if !lease.prove(&mut tx, now).await? {
            return Ok(Written::LeaseLost);
        }
        let mut next = BTreeMap::new();
        for (seq, stream) in rows {
            if !next.contains_key(stream) {
                next.insert(stream, next_publish_no(&mut tx, stream).await?);
            }
            let Some(number) = next.get_mut(stream) else { continue };
            let sql = "UPDATE outbox SET sent_partition = $1, publish_no = $2 WHERE seq = $3";
            tx.execute(sql, params![stream.partition, *number, *seq]).await?;
            *number += 1;
        }
        for (stream, number) in next {
            let sql = "INSERT INTO outbox_partition (queue, sent_partition, next_publish_no) VALUES ($1, $2, $3)
                       ON CONFLICT (queue, sent_partition) DO UPDATE SET next_publish_no = excluded.next_publish_no";
            tx.execute(sql, params![stream.queue.as_str(), stream.partition, number]).await?;
        }
        tx.commit().await?;
        Ok(Written::Done(()))
    }

    /// Partitions that rows with a number wait for.
    pub async fn waiting(&self) -> Result<Vec<Stream>, Error> {
        let sql = "SELECT DISTINCT queue, sent_partition FROM outbox WHERE sent_at IS NULL AND publish_no IS NOT NULL";
        streams(&self.database.query(sql, &[]).await?)
    }

    /// Partitions that rows were sent to, as far as they are kept, with the last position under each lineage.
    pub async fn known(&self) -> Result<BTreeMap<Stream, Vec<(u64, u64)>>, Error> {
        let sql = "SELECT queue, sent_partition, sent_lineage, last_position FROM outbox_lineage";
        let rows = self.database.query(sql, &[]).await?;
        let mut known: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (row, stream) in rows.iter().zip(streams(&rows)?) {
            let (lineage, last): (i64, i64) = (row.get("sent_lineage")?, row.get("last_position")?);
            known.entry(stream).or_default().push((lineage.cast_unsigned(), last.cast_unsigned()));
        }
        Ok(known)
    }

    /// The next rows of a partition to publish: by their numbers, without a gap, at most `most`, and at most `bytes`
    /// unless it is one.
    pub async fn batch(&self, stream: &Stream, most: i64, bytes: usize) -> Result<Vec<Stamped>, Error> {
        let sql = "SELECT id, queue, event, key, source, headers, data, created_at, publish_no FROM outbox
                   WHERE queue = $1 AND sent_partition = $2 AND publish_no IS NOT NULL AND sent_at IS NULL
                   ORDER BY publish_no LIMIT $3";
        let rows = self.database.query(sql, params![stream.queue.as_str(), stream.partition, most]).await?;
        let mut batch: Vec<Stamped> = Vec::with_capacity(rows.len());
        let mut total = 0;
        for row in &rows {
            let row = Stamped::read(row)?;
            total += row.bytes;
            let follows = batch.last().is_none_or(|last| last.publish_no + 1 == row.publish_no && total <= bytes);
            if !follows {
                break;
            }
            batch.push(row);
        }
        Ok(batch)
    }

    /// Remembers where the bus recorded rows.
    pub async fn mark(
        &self,
        lease: &Lease,
        now: OffsetDateTime,
        stream: &Stream,
        sent: &[Sent],
    ) -> Result<Written<()>, Error> {
        let mut tx = self.database.begin().await?;
        if !lease.prove(&mut tx, now).await? {
            return Ok(Written::LeaseLost);
        }
        let queue = stream.queue.as_str();
        for run in runs(sent) {
            tx.execute(
                "UPDATE outbox SET sent_lineage = $1, sent_position = $2 + (publish_no - $3), sent_at = $4
                 WHERE queue = $5 AND sent_partition = $6 AND publish_no BETWEEN $3 AND $7 AND sent_at IS NULL",
                params![run.lineage, run.position, run.first, now, queue, stream.partition, run.last],
            )
            .await?;
            tx.execute(
                "INSERT INTO outbox_lineage (queue, sent_partition, sent_lineage, last_position, last_sent_at)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (queue, sent_partition, sent_lineage) DO UPDATE SET
                     last_sent_at = excluded.last_sent_at,
                     last_position = CASE WHEN excluded.last_position > outbox_lineage.last_position
                                          THEN excluded.last_position ELSE outbox_lineage.last_position END",
                params![queue, stream.partition, run.lineage, run.position + (run.last - run.first), now],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(Written::Done(()))
    }

    /// Makes unsent what the bus no longer holds; how many rows.
    pub async fn reopen(
        &self,
        lease: &Lease,
        now: OffsetDateTime,
        stream: &Stream,
        lineages: &Lineages,
    ) -> Result<Written<u64>, Error> {
        let mut tx = self.database.begin().await?;
        if !lease.prove(&mut tx, now).await? {
            return Ok(Written::LeaseLost);
        }
        let (queue, mut reopened) = (stream.queue.as_str(), 0);
        let sql = "SELECT sent_lineage, last_position FROM outbox_lineage WHERE queue = $1 AND sent_partition = $2";
        for row in tx.query(sql, params![queue, stream.partition]).await? {
            let (lineage, last): (i64, i64) = (row.get("sent_lineage")?, row.get("last_position")?);
            let Some(cut) = lineages.cut(lineage.cast_unsigned()).map(u64::cast_signed) else { continue };
            if cut > last {
                continue;
            }
            reopened += tx
                .execute(
                    "UPDATE outbox SET sent_lineage = NULL, sent_position = NULL, sent_at = NULL
                     WHERE queue = $1 AND sent_partition = $2 AND sent_lineage = $3 AND sent_position >= $4",
                    params![queue, stream.partition, lineage, cut],
                )
                .await?;
            if cut == 0 {
                let sql = "DELETE FROM outbox_lineage WHERE queue = $1 AND sent_partition = $2 AND sent_lineage = $3";
                tx.execute(sql, params![queue, stream.partition, lineage]).await?;
            } else {
                let sql = "UPDATE outbox_lineage SET last_position = $1
                           WHERE queue = $2 AND sent_partition = $3 AND sent_lineage = $4";
                tx.execute(sql, params![cut - 1, queue, stream.partition, lineage]).await?;
            }
        }
        if reopened > 0 && unnumbered(&mut tx, stream).await? {
            restart(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(Written::Done(reopened))
    }

    /// Begins the numbers anew under another name, where those of the bus and these have come apart (a copy of the
    /// database was restored, a queue was made anew with other partitions).
    pub async fn renumber(&self, lease: &Lease, now: OffsetDateTime) -> Result<Written<()>, Error> {
        let mut tx = self.database.begin().await?;
        if !lease.prove(&mut tx, now).await? {
            return Ok(Written::LeaseLost);
        }
        restart(&mut tx).await?;
        tx.commit().await?;
        Ok(Written::Done(()))
    }

    /// Forgets some of the rows that the bus has recorded long ago; how many.
    pub async fn trim(&self, now: OffsetDateTime) -> Result<u64, Error> {
        let mut tx = self.database.begin().await?;
        let trimmed = tx
            .execute(
                "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE sent_at < $1 ORDER BY sent_at LIMIT $2)",
                params![now - KEPT, TRIM_STEP.cast_signed()],
            )
            .await?;
        tx.execute("DELETE FROM outbox_lineage WHERE last_sent_at < $1", params![now - KEPT]).await?;
        tx.commit().await?;
        Ok(trimmed)
    }
}

async fn next_publish_no(tx: &mut Transaction, stream: &Stream) -> Result<i64, Error> {
    let sql = "SELECT next_publish_no FROM outbox_partition WHERE queue = $1 AND sent_partition = $2";
    let rows = tx.query(sql, params![stream.queue.as_str(), stream.partition]).await?;
    rows.first().map_or(Ok(1), |row| row.get("next_publish_no"))
}

/// Whether a row to be sent again lost its number when the numbers began anew.
async fn unnumbered(tx: &mut Transaction, stream: &Stream) -> Result<bool, Error> {
    let sql =
        "SELECT seq FROM outbox WHERE queue = $1 AND sent_partition = $2 AND publish_no IS NULL AND sent_at IS NULL
               LIMIT 1";
    Ok(!tx.query(sql, params![stream.queue.as_str(), stream.partition]).await?.is_empty())
}

async fn restart(tx: &mut Transaction) -> Result<(), Error> {
    tx.execute("UPDATE outbox_relay SET outbox = $1", params![Uuid::new_v4().to_string()]).await?;
    tx.execute("UPDATE outbox SET publish_no = NULL", &[]).await?;
    tx.execute("DELETE FROM outbox_partition", &[]).await?;
    Ok(())
}

/// Rows whose numbers and positions both rise by one.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    first: i64,
    last: i64,
    lineage: i64,
    position: i64,
}

fn runs(sent: &[Sent]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Sent { publish_no, lineage, position } in sent.iter().copied() {
        match runs.last_mut() {
            Some(run)
                if run.lineage == lineage
                    && run.last + 1 == publish_no
                    && run.position + (publish_no - run.first) == position =>
            {
                run.last = publish_no;
            }
            _ => runs.push(Run { first: publish_no, last: publish_no, lineage, position }),
        }
    }
    runs
}

fn streams(rows: &[database::Row]) -> Result<Vec<Stream>, Error> {
    let read = |row: &database::Row| {
        let partition = u32::try_from(row.get::<i64>("sent_partition")?).unwrap_or_default();
        Ok(Stream { queue: name(row, "queue")?, partition })
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_marked_in_runs() {
        let sent = |publish_no, lineage, position| Sent { publish_no, lineage, position };
        // 3 and 4 had been recorded before, and others' events lie between.
        let rows = [sent(3, 1, 10), sent(4, 1, 11), sent(5, 1, 20), sent(6, 1, 21), sent(7, 2, 22)];
        let run = |first, last, lineage, position| Run { first, last, lineage, position };
        assert_eq!(runs(&rows), [run(3, 4, 1, 10), run(5, 6, 1, 20), run(7, 7, 2, 22)]);
        assert_eq!(runs(&[]), []);
    }
}
