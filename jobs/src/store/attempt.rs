//! An attempt at a task: begun, watched and ended.

use std::{collections::BTreeMap, time::Duration};

use database::{Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, kept, locked::Locked, number, word};
use crate::{
    Error, Priority, Retry, State,
    event::Run,
    job::Progress,
    machine::{Begun, End, Told},
};

/// The error of an attempt of which nothing more was heard.
const LOST: &str = "its worker died, or lost its lease";

/// An attempt that has begun.
#[derive(Debug)]
pub(crate) struct Started {
    pub run: Run,
    pub start: u32,
    pub attempt: u32,
    /// The job's and the task's.
    pub name: String,
    pub task: String,
    pub owner: Option<String>,
    pub input: String,
    pub timeout: Option<Duration>,
    pub retry: Retry,
    pub results: BTreeMap<String, String>,
}

/// An attempt of which a worker elsewhere speaks.
#[derive(Debug)]
pub(crate) struct Held {
    pub kind: String,
    pub priority: Priority,
    pub state: State,
    pub attempt: u32,
    pub started: OffsetDateTime,
    pub timeout: Option<Duration>,
    pub retry: Option<Retry>,
    pub told: Option<Told>,
}

/// How an attempt ended, with what is kept of it.
#[derive(Debug)]
pub(crate) enum Ended {
    Done { result: String },
    Retry { due: OffsetDateTime, error: String },
    Failed { error: String },
    GivenBack,
}

impl Store {
    /// Begins an attempt for a delivery; None: the delivery is stale, there is nothing to do.
    pub async fn begin(
        &self,
        run: Run,
        retry: Retry,
        worker: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Started>, Error> {
        let mut tx = self.0.begin().await?;
        let mut job = match Locked::read(&mut tx, run.job).await {
            Err(Error::NoJob(_)) => return Ok(None),
            read => read?,
        };
        let key = [run.job.to_string()];
        let place = number::<u32>(i64::try_from(run.task).unwrap_or(i64::MAX))?;
        let rows = tx
            .query(
                "SELECT name, input, timeout, retry FROM task WHERE job = $1 AND place = $2",
                params![&key[0], place],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let retry = own_retry(row)?.unwrap_or(retry);
        let begun = job.machine.begin(run.task, run.run, retry.attempts);
        let (start, attempt) = match begun {
            Begun::Started { start, attempt, lost } => {
                if lost {
                    close(&mut tx, &key[0], place, "lost", Some(LOST), now).await?;
                }
                (start, attempt)
            }
            Begun::Exhausted => {
                close(&mut tx, &key[0], place, "lost", Some(LOST), now).await?;
                tell(&mut tx, &key[0], place, LOST).await?;
                job.save(tx, now).await?;
                return Ok(None);
            }
            Begun::Vanished => {
                close(&mut tx, &key[0], place, "lost", Some(LOST), now).await?;
                job.save(tx, now).await?;
                return Ok(None);
            }
            Begun::Stale => {
                job.save(tx, now).await?;
                return Ok(None);
            }
        };
        tx.execute(
            "INSERT INTO attempt (job, place, start, number, worker, started_at, outcome)
             VALUES ($1, $2, $3, $4, $5, $6, 'running')",
            params![&key[0], place, start, attempt, worker, now],
        )
        .await?;
        tx.execute(
            "UPDATE task SET worker = $1, progress = 0, note = NULL WHERE job = $2 AND place = $3",
            params![worker, &key[0], place],
        )
        .await?;
        let results = results(&mut tx, &key[0], &job.machine.tasks[run.task].needs).await?;
        let started = Started {
            run,
            start,
            attempt,
            name: job.name.clone(),
            task: row.get("name")?,
            owner: job.owner.clone(),
            input: row.get("input")?,
            timeout: timeout(row)?,
            retry,
            results,
        };
        job.save(tx, now).await?;
        Ok(Some(started))
    }

    /// Ends an attempt. False: the task is somebody else's now, or was cancelled; nothing was changed.
    pub async fn end(&self, run: Run, start: u32, ended: &Ended, now: OffsetDateTime) -> Result<bool, Error> {
        let mut tx = self.0.begin().await?;
        let mut job = match Locked::read(&mut tx, run.job).await {
            Err(Error::NoJob(_)) => return Ok(false),
            read => read?,
        };
        let end = match ended {
            Ended::Done { .. } => End::Done,
            Ended::Retry { due, .. } => End::Retry(*due),
            Ended::Failed { .. } => End::Failed,
            Ended::GivenBack => End::GivenBack,
        };
        if !job.machine.end(run.task, start, end) {
            return Ok(false);
        }
        let (key, place) = (run.job.to_string(), run.task as u32);
        match ended {
            Ended::Done { result } => {
                tx.execute(
                    "UPDATE task SET result = $1, progress = 1000000 WHERE job = $2 AND place = $3",
                    params![result, &key, place],
                )
                .await?;
                close(&mut tx, &key, place, "completed", None, now).await?;
            }
            Ended::Retry { error, .. } | Ended::Failed { error } => {
                tell(&mut tx, &key, place, error).await?;
                close(&mut tx, &key, place, "failed", Some(error), now).await?;
            }
            // Nothing was tried.
            Ended::GivenBack => {
                tx.execute(
                    "DELETE FROM attempt WHERE job = $1 AND place = $2 AND start = $3",
                    params![&key, place, start],
                )
                .await?;
            }
        }
        job.save(tx, now).await?;
        Ok(true)
    }

    /// The attempt of that start, as long as no other one has begun.
    pub async fn held(&self, run: Run, start: u32) -> Result<Option<Held>, Error> {
        let rows = self
            .0
            .query(
                "SELECT t.kind, t.state, t.attempts, t.timeout, t.retry, t.told, j.priority, a.started_at
                 FROM task t JOIN job j ON j.id = t.job
                     JOIN attempt a ON a.job = t.job AND a.place = t.place AND a.start = t.starts
                 WHERE t.job = $1 AND t.place = $2 AND t.starts = $3",
                params![run.job.to_string(), number::<u32>(i64::try_from(run.task).unwrap_or(i64::MAX))?, start],
            )
            .await?;
        rows.first().map(held).transpose()
    }

    /// The handler of a cancelled task has ended: it needn't be told any more.
    pub async fn heard(&self, run: Run, start: u32) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        tx.execute(
            "UPDATE task SET told = NULL WHERE job = $1 AND place = $2 AND starts = $3 AND state = 'cancelled'",
            params![run.job.to_string(), run.task as u32, start],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// The bus has given up on a run: its task has failed. False: it had ended, or is another run's now.
    pub async fn poison(&self, run: Run, error: &str, now: OffsetDateTime) -> Result<bool, Error> {
        let mut tx = self.0.begin().await?;
        let mut job = match Locked::read(&mut tx, run.job).await {
            Err(Error::NoJob(_)) => return Ok(false),
            read => read?,
        };
        if !job.machine.poison(run.task, run.run) {
            return Ok(false);
        }
        let (key, place) = (run.job.to_string(), run.task as u32);
        tell(&mut tx, &key, place, error).await?;
        close(&mut tx, &key, place, "lost", Some(LOST), now).await?;
        job.save(tx, now).await?;
        Ok(true)
    }

    /// Stores what handlers have said of their progress.
    pub async fn progress(&self, said: &[(Run, u32, Progress)]) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        for (run, start, Progress { part, note }) in said {
            tx.execute(
                "UPDATE task SET progress = $1, note = $2
                 WHERE job = $3 AND place = $4 AND starts = $5 AND state = 'running'",
                params![*part, note, run.job.to_string(), run.task as u32, *start],
            )
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// What the handlers of a worker are to be told: which task, which start of it.
    pub async fn told(&self, worker: &str) -> Result<Vec<((Uuid, usize, u32), Told)>, Error> {
        let rows = self
            .0
            .query("SELECT job, place, starts, told FROM task WHERE worker = $1 AND told IS NOT NULL", params![worker])
            .await?;
        let read = |row: &Row| {
            let task =
                (super::id(&row.get::<String>("job")?)?, number(row.get("place")?)?, number(row.get("starts")?)?);
            Ok((task, word(&row.get::<String>("told")?, Told::parse)?))
        };
        rows.iter().map(read).collect()
    }
}

/// Ends the attempt that is open.
async fn close(
    tx: &mut Transaction,
    job: &str,
    place: u32,
    outcome: &str,
    error: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE attempt SET outcome = $1, error = $2, ended_at = $3
         WHERE job = $4 AND place = $5 AND outcome = 'running'",
        params![outcome, error.map(kept), now, job, place],
    )
    .await?;
    Ok(())
}

async fn tell(tx: &mut Transaction, job: &str, place: u32, error: &str) -> Result<(), Error> {
    tx.execute("UPDATE task SET error = $1 WHERE job = $2 AND place = $3", params![kept(error), job, place]).await?;
    Ok(())
}

async fn results(tx: &mut Transaction, job: &str, needs: &[usize]) -> Result<BTreeMap<String, String>, Error> {
    let mut results = BTreeMap::new();
    for need in needs {
        let rows =
            tx.query("SELECT name, result FROM task WHERE job = $1 AND place = $2", params![job, *need as u32]).await?;
        for row in rows {
            results.insert(row.get("name")?, row.get::<Option<String>>("result")?.unwrap_or_default());
        }
    }
    Ok(results)
}

fn timeout(row: &Row) -> Result<Option<Duration>, Error> {
    row.get::<Option<i64>>("timeout")?.map(|millis| Ok(Duration::from_millis(number(millis)?))).transpose()
}

fn own_retry(row: &Row) -> Result<Option<Retry>, Error> {
    let own = row.get::<Option<String>>("retry")?;
    own.map(|own| word(&own, |own| serde_json::from_str(own).ok())).transpose()
}

fn held(row: &Row) -> Result<Held, Error> {
    let told = row.get::<Option<String>>("told")?;
    Ok(Held {
        kind: row.get("kind")?,
        priority: word(&row.get::<String>("priority")?, Priority::parse)?,
        state: word(&row.get::<String>("state")?, State::parse)?,
        attempt: number(row.get("attempts")?)?,
        started: row.get("started_at")?,
        timeout: timeout(row)?,
        retry: own_retry(row)?,
        told: told.map(|told| word(&told, Told::parse)).transpose()?,
    })
}
