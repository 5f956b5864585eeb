//! A new job: its rows, or the id of the one that is there already.

use database::{Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::{
    Error, NewJob, State,
    machine::{Dispatch, Machine, Step},
};

/// What came of creating a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: Uuid,
    /// It was there already, by its id or its unique key; nothing was created.
    pub existing: bool,
}

/// How often a key is asked for again whose job ended in between.
const TRIES: usize = 5;

impl Store {
    pub async fn create(&self, id: Uuid, job: &NewJob, now: OffsetDateTime) -> Result<Created, Error> {
        let machine = Machine::new(job.check(now)?);
        for _ in 0..TRIES {
            let mut tx = self.0.begin().await?;
            if insert(&mut tx, id, job, &machine, now).await? {
                tx.commit().await?;
                return Ok(Created { id, existing: false });
            }
            if let Some(id) = existing(&mut tx, id, job).await? {
                return Ok(Created { id, existing: true });
            }
        }
        Err(Error::Unavailable("jobs of this key come and go too fast".to_owned()))
    }
}

/// What a job is unique by while it has not ended. Neither part has a control character.
fn unique_key(job: &NewJob) -> Option<String> {
    job.key.as_ref().map(|key| format!("{}\n{key}", job.name))
}

async fn existing(tx: &mut Transaction, id: Uuid, job: &NewJob) -> Result<Option<Uuid>, Error> {
    let rows = tx
        .query(
            "SELECT id FROM job WHERE id = $1 OR unique_key = $2 ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END",
            params![id.to_string(), unique_key(job)],
        )
        .await?;
    rows.first().map(|row| super::id(&row.get::<String>("id")?)).transpose()
}

/// False: its id or its key is taken.
pub(super) async fn insert(
    tx: &mut Transaction,
    id: Uuid,
    job: &NewJob,
    machine: &Machine,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let inserted = tx
        .execute(
            "INSERT INTO job (id, name, state, priority, owner, key, unique_key, cron, traceparent, tracestate,
                 created_at, run_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
            params![
                id.to_string(),
                &job.name,
                machine.state().as_str(),
                job.priority.as_str(),
                job.owner.clone(),
                job.key.clone(),
                unique_key(job),
                job.cron.clone(),
                job.trace.as_ref().map(ToString::to_string),
                job.trace.as_ref().and_then(|trace| trace.state().map(str::to_owned)),
                now,
                job.due(now),
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    for (at, ((name, task), step)) in (0_u32..).zip(job.tasks.iter().zip(&machine.tasks)) {
        let input = task.input.as_ref().map(ToString::to_string).map_err(|reason| Error::Invalid(reason.clone()))?;
        let json = |error: serde_json::Error| Error::Invalid(error.to_string());
        let retry = task.retry.map(|retry| serde_json::to_string(&retry)).transpose().map_err(json)?;
        let Step { state, due, dispatch, run, .. } = step;
        tx.execute(
            "INSERT INTO task (job, place, name, kind, input, needs, timeout, retry, state, due_at, dispatch, run,
                 starts, attempts, progress)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0)",
            params![
                id.to_string(),
                at,
                name,
                &task.kind,
                input,
                serde_json::to_string(&step.needs).map_err(json)?,
                task.timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).max(1)),
                retry,
                State::as_str(*state),
                *due,
                Dispatch::as_str(*dispatch),
                *run,
            ],
        )
        .await?;
    }
    Ok(true)
}
