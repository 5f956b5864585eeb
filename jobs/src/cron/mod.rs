//! Jobs that are created by the calendar: expressions, and what becomes of firings that nobody was there for.

mod expression;
mod utc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

pub(crate) use expression::Expression;

use crate::{Error, Kind, NewJob, Priority, Task, plan::MAX_DATA_BYTES};

/// The most missed firings that are made up for.
pub const MAX_MISSED: u32 = 1_000;

/// A job of one task each time an expression matches, by UTC. It fires once each time, whoever watches the clock: the job's
/// id follows from the schedule's name and the moment.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) kind: String,
    pub(crate) input: Result<Value, String>,
    pub(crate) priority: Priority,
    pub(crate) owner: Option<String>,
    pub(crate) missed: Missed,
}

/// What becomes of firings that are more than a minute late: nobody was there, or the schedule's row was locked that long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are left out.
    #[default]
    Skip,
    /// The latest firing makes up for all of them.
    Once,
    /// All of them fire, oldest first; at most so many, the last ones (1 to 1,000).
    All { most: u32 },
}

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleStatus {
    pub name: String,
    #[serde(rename = "cron")]
    pub expression: String,
    pub kind: String,
    #[serde(rename = "payload")]
    pub input: Value,
    pub priority: Priority,
    pub owner: Option<String>,
    pub missed: Missed,
    pub enabled: bool,
    /// None: it is disabled, or never matches again.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next: Option<OffsetDateTime>,
    /// The last firing.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last: Option<OffsetDateTime>,
}

impl Schedule {
    /// `name`: 1 to 128 bytes. `expression`: five fields (minute, hour, day, month, weekday), or six with seconds first, as
    /// in `30 4 * * MON-FRI`; always UTC.
    pub fn new<I: Serialize, O>(name: &str, expression: &str, kind: Kind<I, O>, input: &I) -> Self {
        let input = serde_json::to_value(input).map_err(|error| error.to_string());
        Self { input, ..Self::untyped(name, expression, kind.name(), Value::Null) }
    }

    /// Of a kind whose types aren't known here, as [`crate::Task::untyped`].
    pub fn untyped(name: &str, expression: &str, kind: &str, input: Value) -> Self {
        Self {
            name: name.to_owned(),
            expression: expression.to_owned(),
            kind: kind.to_owned(),
            input: Ok(input),
            priority: Priority::Normal,
            owner: None,
            missed: Missed::Skip,
        }
    }

    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    #[must_use]
    pub fn owner(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Checks all of it, and whether its jobs could be created.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<Expression, Error> {
        if let Missed::All { most } = self.missed
            && !(1..=MAX_MISSED).contains(&most)
        {
            return Err(Error::Invalid(format!("missed.most: {most} is not within 1 to {MAX_MISSED}")));
        }
        // Of a schedule, the task's input is the input.
        if self.input.as_ref().is_ok_and(|input| input.to_string().len() > MAX_DATA_BYTES) {
            return Err(Error::Invalid("input: must be at most 256 KiB".to_owned()));
        }
        let task = Task { input: self.input.clone(), ..Task::untyped(&self.kind, Value::Null) };
        firing_job(&self.name, task, self.priority, self.owner.clone()).check(now)?;
        Expression::parse(&self.expression)
    }
}

/// The job that a schedule creates when it fires.
pub(crate) fn firing_job(schedule: &str, task: Task, priority: Priority, owner: Option<String>) -> NewJob {
    let kind = task.kind.clone();
    let job = NewJob::new(schedule).task(&kind, task).priority(priority);
    NewJob { cron: Some(schedule.to_owned()), owner, trace: None, ..job }
}
