//! Schedules, and their firing: the jobs and the next moment are one transaction.

use database::{Row as Stored, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, create::insert, word};
use crate::{
    Error, Priority, Schedule, ScheduleStatus, Task,
    cron::{Expression, Missed, firing_job},
    event,
    machine::Machine,
};

/// The most schedules that fire in one look.
const BATCH: i64 = 100;

/// A schedule as it is stored.
pub(crate) type Row = ScheduleStatus;

impl Store {
    pub async fn declare(&self, schedule: &Schedule, now: OffsetDateTime) -> Result<(), Error> {
        let next = schedule.check(now)?.after(now);
        if next.is_none() {
            return Err(Error::Invalid(format!("expression: {:?} never matches", schedule.expression)));
        }
        let mut tx = self.0.begin().await?;
        let input = schedule.input.as_ref().map_err(|reason| Error::Invalid(format!("input: {reason}")))?.to_string();
        let missed = missed_text(schedule.missed)?;
        // What fires at other moments begins anew; what fires at the same ones keeps those it has yet to make up for.
        tx.execute(
            "INSERT INTO schedule (name, expression, kind, input, priority, owner, missed, enabled, next_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)
             ON CONFLICT (name) DO UPDATE SET kind = $3, input = $4, priority = $5, owner = $6, missed = $7,
                 next_at = CASE WHEN schedule.expression = $2 THEN schedule.next_at
                                WHEN schedule.enabled = 1 THEN CAST($8 AS BIGINT) END,
                 expression = $2",
            params![
                &schedule.name,
                &schedule.expression,
                &schedule.kind,
                input,
                schedule.priority.as_str(),
                schedule.owner.clone(),
                missed,
                next
            ],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Disabled, it doesn't fire; enabled, it goes on from now.
    pub async fn enable(&self, name: &str, enabled: bool, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        let row = lock(&mut tx, name).await?.ok_or_else(|| Error::NoSchedule(name.to_owned()))?;
        let next = match (enabled, row.enabled) {
            (true, true) => row.next,
            _ => Expression::parse(&row.expression)?.after(now),
        };
        tx.execute(
            "UPDATE schedule SET enabled = $1, next_at = $2 WHERE name = $3",
            params![enabled, next.filter(|_| enabled), name],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        if tx.execute("DELETE FROM schedule WHERE name = $1", params![name]).await? == 0 {
            return Err(Error::NoSchedule(name.to_owned()));
        }
        Ok(tx.commit().await?)
    }

    pub async fn schedule_of(&self, name: &str) -> Result<Row, Error> {
        let rows = self.0.query("SELECT * FROM schedule WHERE name = $1", params![name]).await?;
        row(rows.first().ok_or_else(|| Error::NoSchedule(name.to_owned()))?)
    }

    /// By name, after that one.
    pub async fn schedules(&self, after: &str, limit: usize) -> Result<Vec<Row>, Error> {
        let rows = self
            .0
            .query(
                "SELECT * FROM schedule WHERE name > $1 ORDER BY name LIMIT $2",
                params![after, limit.clamp(1, 500) as i64],
            )
            .await?;
        rows.iter().map(row).collect()
    }

    /// Fires what is due; the jobs that were created.
    pub async fn fire(&self, now: OffsetDateTime) -> Result<Vec<Uuid>, Error> {
        let due = self
            .0
            .query(
                "SELECT name FROM schedule WHERE enabled = 1 AND next_at <= $1 ORDER BY next_at LIMIT $2",
                params![now, BATCH],
            )
            .await?;
        let mut fired = Vec::new();
        for name in due {
            let name: String = name.get("name")?;
            match self.fire_one(&name, now).await {
                Ok(jobs) => fired.extend(jobs),
                Err(error @ Error::Unavailable(_)) => return Err(error),
                // What is wrong with one schedule keeps no other waiting.
                Err(error) => tracing::error!(schedule = name, %error, "a schedule can't fire"),
            }
        }
        Ok(fired)
    }

    async fn fire_one(&self, name: &str, now: OffsetDateTime) -> Result<Vec<Uuid>, Error> {
        let mut tx = self.0.begin().await?;
        // Another node may have fired it since the look; who waited for its lock sees the moment after that.
        let Some(schedule) = lock(&mut tx, name).await? else { return Ok(Vec::new()) };
        let Some(due) = schedule.next.filter(|due| schedule.enabled && *due <= now) else { return Ok(Vec::new()) };
        let (firings, next) = Expression::parse(&schedule.expression)?.firings(due, now, schedule.missed);
        let mut fired = Vec::new();
        for firing in &firings {
            let id = event::firing_id(name, *firing);
            let task = Task::untyped(&schedule.kind, schedule.input.clone());
            let job = firing_job(name, task, schedule.priority, schedule.owner.clone());
            let machine = Machine::new(job.check(now)?);
            if insert(&mut tx, id, &job, &machine, now).await? {
                fired.push(id);
            }
        }
        tx.execute(
            "UPDATE schedule SET next_at = $1, last_at = COALESCE($2, last_at) WHERE name = $3",
            params![next, firings.last().copied(), name],
        )
        .await?;
        tx.commit().await?;
        Ok(fired)
    }
}

async fn lock(tx: &mut Transaction, name: &str) -> Result<Option<Row>, Error> {
    let rows = tx.query("SELECT * FROM schedule WHERE name = $1 FOR UPDATE", params![name]).await?;
    rows.first().map(row).transpose()
}

fn row(row: &Stored) -> Result<Row, Error> {
    Ok(ScheduleStatus {
        name: row.get("name")?,
        expression: row.get("expression")?,
        kind: row.get("kind")?,
        input: word(&row.get::<String>("input")?, |json| serde_json::from_str(json).ok())?,
        priority: word(&row.get::<String>("priority")?, Priority::parse)?,
        owner: row.get("owner")?,
        missed: word(&row.get::<String>("missed")?, |json| serde_json::from_str(json).ok())?,
        enabled: row.get("enabled")?,
        next: row.get("next_at")?,
        last: row.get("last_at")?,
    })
}

fn missed_text(missed: Missed) -> Result<String, Error> {
    serde_json::to_string(&missed).map_err(|error| Error::Invalid(error.to_string()))
}
