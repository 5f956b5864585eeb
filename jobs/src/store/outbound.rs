//! What has to be put on the bus, and where the bus has it.

use database::{Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, locked::Locked, number, word};
use crate::{
    Error, Priority,
    event::{Run, Wanted},
    kind::LONGEST_TIMEOUT,
};

/// The most runs of one look.
const BATCH: i64 = 128;
/// How long a run may wait on the bus before it is put there again: the log keeps an event for seven days, unless somebody
/// who needs it is there.
const PATIENCE: time::Duration = time::Duration::days(3);

/// A stretch of the bus's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub priority: Priority,
    pub partition: u32,
    pub lineage: u64,
}

impl Store {
    /// Runs that wait to be published, of one job or of all, after that one; in their order.
    pub async fn wanted(&self, job: Option<Uuid>, after: Option<Run>) -> Result<Vec<Wanted>, Error> {
        let rows = self
            .0
            .query(
                "SELECT t.job, t.place, t.kind, t.run, j.priority, j.owner, j.traceparent, j.tracestate
                 FROM task t JOIN job j ON j.id = t.job
                 WHERE t.dispatch = 'wanted' AND (CAST($1 AS TEXT) IS NULL OR t.job = $1)
                   AND (CAST($2 AS TEXT) IS NULL OR t.job > $2 OR (t.job = $2 AND t.place > $3))
                 ORDER BY t.job, t.place LIMIT $4",
                params![
                    job.map(|job| job.to_string()),
                    after.map(|run| run.job.to_string()),
                    after.map(|run| run.task as i64),
                    BATCH
                ],
            )
            .await?;
        rows.iter().map(wanted).collect()
    }

    /// They are on the bus: in this partition and lineage, there.
    pub async fn published(&self, runs: &[(Run, u32, u64, Option<u64>)], now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        for (Run { job, task, run }, partition, lineage, position) in runs {
            // Somebody may have begun it already, and even ended.
            tx.execute(
                "UPDATE task SET dispatch = CASE WHEN dispatch = 'wanted' THEN 'out' ELSE dispatch END,
                     part = $1, lineage = $2, position = $3, published_at = $4
                 WHERE job = $5 AND place = $6 AND run = $7",
                params![
                    *partition,
                    *lineage as i64,
                    position.map(|position| position as i64),
                    now,
                    job.to_string(),
                    *task as u32,
                    *run
                ],
            )
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// The stretches of the log in which runs lie that are not done with.
    pub async fn log_places(&self) -> Result<Vec<Place>, Error> {
        let rows = self
            .0
            .query(
                "SELECT DISTINCT j.priority, t.part, t.lineage FROM task t JOIN job j ON j.id = t.job
                 WHERE t.dispatch = 'out' AND t.lineage IS NOT NULL",
                &[],
            )
            .await?;
        let place = |row: &Row| {
            Ok(Place {
                priority: word(&row.get::<String>("priority")?, Priority::parse)?,
                partition: number(row.get("part")?)?,
                lineage: number(row.get("lineage")?)?,
            })
        };
        rows.iter().map(place).collect()
    }

    /// Wants again some of what lay in a stretch from a position on; how much, 0: nothing is left.
    pub async fn lost(&self, place: Place, cut: u64, now: OffsetDateTime) -> Result<u64, Error> {
        let rows = self
            .0
            .query(
                "SELECT t.job, t.place, t.run FROM task t JOIN job j ON j.id = t.job
                 WHERE t.dispatch = 'out' AND j.priority = $1 AND t.part = $2 AND t.lineage = $3 AND t.position >= $4
                 ORDER BY t.position LIMIT $5",
                params![
                    place.priority.as_str(),
                    place.partition,
                    place.lineage as i64,
                    i64::try_from(cut).unwrap_or(i64::MAX),
                    BATCH
                ],
            )
            .await?;
        self.want_again(&rows, now).await
    }

    /// Wants again what has been on the bus for so long that it may not be there any more, and what was begun so long ago
    /// that nobody can be at it; how much.
    pub async fn overdue(&self, now: OffsetDateTime) -> Result<u64, Error> {
        let rows = self
            .0
            .query(
                "SELECT job, place, run FROM task
                 WHERE dispatch = 'out' AND published_at < $1
                   AND (state = 'pending' OR NOT EXISTS (
                       SELECT 1 FROM attempt WHERE attempt.job = task.job AND attempt.place = task.place
                           AND outcome = 'running' AND started_at >= $2))
                 ORDER BY published_at LIMIT $3",
                params![now - PATIENCE, now - 2 * LONGEST_TIMEOUT, BATCH],
            )
            .await?;
        self.want_again(&rows, now).await
    }

    async fn want_again(&self, rows: &[Row], now: OffsetDateTime) -> Result<u64, Error> {
        let mut again = 0;
        for row in rows {
            let run = run(row)?;
            let mut tx = self.0.begin().await?;
            let mut job = match Locked::read(&mut tx, run.job).await {
                Err(Error::NoJob(_)) => continue,
                read => read?,
            };
            if job.machine.republish(run.task, run.run) {
                tx.execute(
                    "UPDATE task SET lineage = NULL, position = NULL, published_at = NULL WHERE job = $1 AND place = $2",
                    params![run.job.to_string(), run.task as u32],
                )
                .await?;
                job.save(tx, now).await?;
                again += 1;
            }
        }
        Ok(again)
    }
}

fn run(row: &Row) -> Result<Run, Error> {
    Ok(Run {
        job: super::id(&row.get::<String>("job")?)?,
        task: number(row.get("place")?)?,
        run: number(row.get("run")?)?,
    })
}

fn wanted(row: &Row) -> Result<Wanted, Error> {
    Ok(Wanted {
        run: run(row)?,
        kind: row.get("kind")?,
        priority: word(&row.get::<String>("priority")?, Priority::parse)?,
        owner: row.get("owner")?,
        traceparent: row.get("traceparent")?,
        tracestate: row.get("tracestate")?,
    })
}
