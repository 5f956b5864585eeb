//! Jobs as they are shown: one, a page, counts.

use std::collections::BTreeMap;

use database::{Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, number, word};
use crate::{Attempt, Error, JobDetail, JobStatus, Listed, Listing, Place, Priority, State, TaskStatus};

/// The most jobs of a page.
const PAGE: usize = 500;

impl Store {
    pub async fn get(&self, id: Uuid) -> Result<JobDetail, Error> {
        // One reader for all three: a moment's whole picture.
        let mut tx = self.0.begin().await?;
        let key = id.to_string();
        let jobs = tx
            .query(
                "SELECT id, name, state, priority, owner, key, cron, created_at, run_at, ended_at,
                     (SELECT CAST(sum(progress) / count(*) AS BIGINT) FROM task WHERE job = id) AS progress
                 FROM job WHERE id = $1",
                params![&key],
            )
            .await?;
        let job = status(jobs.first().ok_or(Error::NoJob(id))?)?;
        let rows = tx.query("SELECT * FROM task WHERE job = $1 ORDER BY place", params![&key]).await?;
        let attempts = tx.query("SELECT * FROM attempt WHERE job = $1 ORDER BY place, start", params![&key]).await?;
        tx.rollback().await?;
        let mut tasks: Vec<TaskStatus> = rows.iter().map(task).collect::<Result<_, _>>()?;
        let names: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
        for (at, row) in rows.iter().enumerate() {
            let needs: Vec<usize> = word(&row.get::<String>("needs")?, |needs| serde_json::from_str(needs).ok())?;
            tasks[at].after = needs.iter().filter_map(|need| names.get(*need).cloned()).collect();
        }
        for row in &attempts {
            let at: usize = number(row.get("place")?)?;
            if let Some(task) = tasks.get_mut(at) {
                task.attempts.push(attempt(row)?);
            }
        }
        Ok(JobDetail { job, tasks })
    }

    pub async fn owner(&self, id: Uuid) -> Result<Option<String>, Error> {
        let rows = self.0.query("SELECT owner FROM job WHERE id = $1", params![id.to_string()]).await?;
        Ok(rows.first().ok_or(Error::NoJob(id))?.get("owner")?)
    }

    pub async fn list(&self, listing: &Listing, limit: usize) -> Result<Listed, Error> {
        let limit = limit.clamp(1, PAGE);
        let rows = self
            .0
            .query(
                "SELECT id, name, state, priority, owner, key, cron, created_at, run_at, ended_at,
                     (SELECT CAST(sum(progress) / count(*) AS BIGINT) FROM task WHERE job = id) AS progress
                 FROM job
                 WHERE (CAST($1 AS TEXT) IS NULL OR state = $1)
                   AND (CAST($2 AS TEXT) IS NULL OR name = $2)
                   AND (CAST($3 AS TEXT) IS NULL OR owner = $3)
                   AND (CAST($4 AS BIGINT) IS NULL OR created_at >= $4)
                   AND (CAST($5 AS BIGINT) IS NULL OR created_at < $5)
                   AND (CAST($9 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM task WHERE job = id AND kind = $9))
                   AND (CAST($6 AS BIGINT) IS NULL OR created_at < $6 OR (created_at = $6 AND id < $7))
                 ORDER BY created_at DESC, id DESC LIMIT $8",
                params![
                    listing.state.map(State::as_str),
                    listing.name.clone(),
                    listing.owner.clone(),
                    listing.from,
                    listing.until,
                    listing.after.map(|place| place.created),
                    listing.after.map(|place| place.id.to_string()),
                    limit as i64 + 1,
                    listing.kind.clone(),
                ],
            )
            .await?;
        let mut jobs: Vec<JobStatus> = rows.iter().map(status).collect::<Result<_, _>>()?;
        let more = jobs.len() > limit;
        jobs.truncate(limit);
        let next = jobs.last().filter(|_| more).map(|job| Place { created: job.created, id: job.id });
        Ok(Listed { jobs, next })
    }

    /// How many jobs are in each state.
    pub async fn counts(&self) -> Result<BTreeMap<State, u64>, Error> {
        let rows = self.0.query("SELECT state, count(*) AS jobs FROM job GROUP BY state", &[]).await?;
        let count = |row: &Row| {
            let state = word(&row.get::<String>("state")?, State::parse)?;
            Ok((state, number(row.get("jobs")?)?))
        };
        rows.iter().map(count).collect()
    }

    /// Since when the oldest pending job waits.
    pub async fn oldest_pending(&self) -> Result<Option<OffsetDateTime>, Error> {
        let rows = self
            .0
            .query("SELECT min(created_at) AS oldest FROM job WHERE state = $1", params![State::Pending.as_str()])
            .await?;
        Ok(rows.first().map(|row| row.get("oldest")).transpose()?.flatten())
    }
}

fn status(row: &Row) -> Result<JobStatus, Error> {
    Ok(JobStatus {
        id: super::id(&row.get::<String>("id")?)?,
        name: row.get("name")?,
        state: word(&row.get::<String>("state")?, State::parse)?,
        priority: word(&row.get::<String>("priority")?, Priority::parse)?,
        owner: row.get("owner")?,
        key: row.get("key")?,
        cron: row.get("cron")?,
        progress: part(row)?,
        created: row.get("created_at")?,
        run_at: row.get("run_at")?,
        ended: row.get("ended_at")?,
    })
}

fn task(row: &Row) -> Result<TaskStatus, Error> {
    let state = word(&row.get::<String>("state")?, State::parse)?;
    let result: Option<String> = row.get("result")?;
    Ok(TaskStatus {
        name: row.get("name")?,
        kind: row.get("kind")?,
        state,
        after: Vec::new(),
        progress: part(row)?,
        note: row.get("note")?,
        result: result.map(|json| word(&json, |json| serde_json::from_str(json).ok())).transpose()?,
        error: row.get("error")?,
        worker: row.get("worker")?,
        stopping: !state.is_final() && row.get::<Option<String>>("told")?.is_some(),
        due: row.get("due_at")?,
        attempts: Vec::new(),
    })
}

fn attempt(row: &Row) -> Result<Attempt, Error> {
    Ok(Attempt {
        number: number(row.get("number")?)?,
        worker: row.get("worker")?,
        started: row.get("started_at")?,
        ended: row.get("ended_at")?,
        outcome: row.get("outcome")?,
        error: row.get("error")?,
    })
}

fn part(row: &Row) -> Result<f64, Error> {
    Ok(row.get::<Option<i64>>("progress")?.unwrap_or(0) as f64 / 1e6)
}
