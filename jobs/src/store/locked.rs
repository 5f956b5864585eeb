//! A job whose row is locked: read, changed by the state machine, written back.

use database::{Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, number, word};
use crate::{
    Error, State,
    machine::{Dispatch, Machine, Step, Told},
    metrics,
};

/// The most jobs that are found due in one look.
pub(crate) const DUE: usize = 100;

pub(crate) struct Locked {
    pub id: Uuid,
    pub name: String,
    pub owner: Option<String>,
    pub machine: Machine,
    before: Machine,
    state: State,
}

impl Store {
    /// Stops, resumes, cancels: changes a job, or a task of it by its name. The job's state afterwards.
    pub async fn change(
        &self,
        id: Uuid,
        task: Option<&str>,
        now: OffsetDateTime,
        change: impl FnOnce(&mut Machine, Option<usize>) -> Result<(), Error> + Send,
    ) -> Result<State, Error> {
        let mut tx = self.0.begin().await?;
        let mut job = Locked::read(&mut tx, id).await?;
        let which = match task {
            None => None,
            Some(name) => Some(place(&mut tx, id, name).await?),
        };
        change(&mut job.machine, which)?;
        job.save(tx, now).await
    }

    /// What is due in this job becomes pending.
    pub async fn due(&self, id: Uuid, now: OffsetDateTime) -> Result<(), Error> {
        self.change(id, None, now, |machine, _| {
            machine.due(now);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Jobs with tasks that are due, some.
    pub async fn jobs_due(&self, now: OffsetDateTime) -> Result<Vec<Uuid>, Error> {
        let rows = self
            .0
            .query(
                "SELECT DISTINCT job FROM task WHERE state IN ('scheduled', 'retrying') AND due_at <= $1 LIMIT $2",
                params![now, DUE as i64],
            )
            .await?;
        rows.iter().map(|row| super::id(&row.get::<String>("job")?)).collect()
    }
}

async fn place(tx: &mut Transaction, id: Uuid, name: &str) -> Result<usize, Error> {
    let rows = tx.query("SELECT place FROM task WHERE job = $1 AND name = $2", params![id.to_string(), name]).await?;
    let row = rows.first().ok_or_else(|| Error::NoTask(id, name.to_owned()))?;
    number(row.get("place")?)
}

impl Locked {
    pub async fn read(tx: &mut Transaction, id: Uuid) -> Result<Self, Error> {
        let key = id.to_string();
        let jobs = tx.query("SELECT name, state, owner FROM job WHERE id = $1 FOR UPDATE", params![&key]).await?;
        let job = jobs.first().ok_or(Error::NoJob(id))?;
        let rows = tx
            .query(
                "SELECT needs, state, due_at, told, dispatch, run, starts, attempts FROM task WHERE job = $1 ORDER BY place",
                params![&key],
            )
            .await?;
        let machine = Machine { tasks: rows.iter().map(step).collect::<Result<_, _>>()? };
        Ok(Self {
            id,
            name: job.get("name")?,
            owner: job.get("owner")?,
            before: machine.clone(),
            machine,
            state: word(&job.get::<String>("state")?, State::parse)?,
        })
    }

    /// Writes what differs, and commits. The job's state.
    pub async fn save(self, mut tx: Transaction, now: OffsetDateTime) -> Result<State, Error> {
        let key = self.id.to_string();
        for (at, (was, is)) in (0_u32..).zip(self.before.tasks.iter().zip(&self.machine.tasks)) {
            if was == is {
                continue;
            }
            write(&mut tx, &key, at, is).await?;
            if was.state == State::Running && is.state == State::Cancelled {
                tx.execute(
                    "UPDATE attempt SET outcome = 'cancelled', ended_at = $1
                     WHERE job = $2 AND place = $3 AND outcome = 'running'",
                    params![now, &key, at],
                )
                .await?;
            }
        }
        let state = self.machine.state();
        if state != self.state {
            let ended = state.is_final().then_some(now);
            tx.execute(
                "UPDATE job SET state = $1, ended_at = $2,
                     unique_key = CASE WHEN CAST($2 AS BIGINT) IS NULL THEN unique_key END WHERE id = $3",
                params![state.as_str(), ended, &key],
            )
            .await?;
        }
        tx.commit().await?;
        if state != self.state && state.is_final() {
            metrics::ended(state);
        }
        Ok(state)
    }
}

async fn write(tx: &mut Transaction, job: &str, at: u32, step: &Step) -> Result<(), Error> {
    tx.execute(
        "UPDATE task SET state = $1, due_at = $2, told = $3, dispatch = $4, run = $5, starts = $6, attempts = $7
         WHERE job = $8 AND place = $9",
        params![
            step.state.as_str(),
            step.due,
            step.told.map(Told::as_str),
            step.dispatch.as_str(),
            step.run,
            step.starts,
            step.attempts,
            job,
            at
        ],
    )
    .await?;
    Ok(())
}

fn step(row: &Row) -> Result<Step, Error> {
    let needs: String = row.get("needs")?;
    let told: Option<String> = row.get("told")?;
    Ok(Step {
        state: word(&row.get::<String>("state")?, State::parse)?,
        needs: word(&needs, |needs| serde_json::from_str(needs).ok())?,
        due: row.get("due_at")?,
        told: told.map(|told| word(&told, Told::parse)).transpose()?,
        dispatch: word(&row.get::<String>("dispatch")?, Dispatch::parse)?,
        run: number(row.get("run")?)?,
        starts: number(row.get("starts")?)?,
        attempts: number(row.get("attempts")?)?,
    })
}

impl Told {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Cancel => "cancel",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Cancel].into_iter().find(|told| told.as_str() == text)
    }
}

impl Dispatch {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Wanted => "wanted",
            Self::Out => "out",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Idle, Self::Wanted, Self::Out].into_iter().find(|dispatch| dispatch.as_str() == text)
    }
}
