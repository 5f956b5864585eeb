//! A job as its creator writes it: one task, `{"kind", "payload"}`, or `{"name", "tasks": […]}`; with `cron` it is a schedule.

use std::time::Duration;

use jobs::{Missed, NewJob, Pace, Priority, Retry, Schedule, Task};
use serde::Deserialize;
use serde_json::Value;
use telemetry::TraceContext;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{duration, problem::Problem, query::refuse};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    id: Option<Uuid>,
    /// The kind unless said; a schedule has one.
    name: Option<String>,
    #[serde(default)]
    priority: Priority,
    delay: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    run_at: Option<OffsetDateTime>,
    unique: Option<String>,
    cron: Option<String>,
    missed: Option<Missed>,
    /// The one task.
    kind: Option<String>,
    #[serde(default)]
    payload: Value,
    timeout: Option<String>,
    retry: Option<RetryForm>,
    /// Several.
    #[serde(default)]
    tasks: Vec<TaskForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskForm {
    /// The kind unless said.
    name: Option<String>,
    kind: String,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    after: Vec<String>,
    timeout: Option<String>,
    retry: Option<RetryForm>,
}

/// The bus's schedule; the same each time, `every`; or twice as long each time, from `first` to `longest`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryForm {
    attempts: Option<u32>,
    every: Option<String>,
    first: Option<String>,
    longest: Option<String>,
}

/// What is to be created.
pub(super) enum Asked {
    Job(Box<NewJob>),
    /// By its name.
    Schedule(String, Schedule),
}

impl Form {
    pub fn read(self, owner: Option<&str>, trace: Option<TraceContext>) -> Result<Asked, Problem> {
        if let Some(expression) = self.cron.clone() {
            return self.schedule(&expression, owner);
        }
        if self.missed.is_some() {
            return Err(refuse("missed", "goes with cron"));
        }
        let name = match (&self.name, &self.kind) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => return Err(refuse("name", "is required of a job of several tasks")),
        };
        let mut job = NewJob::new(&name).priority(self.priority);
        for (name, task) in self.tasks()? {
            job = job.task(&name, task);
        }
        job = match (&self.delay, self.run_at) {
            (Some(_), Some(_)) => return Err(refuse("run_at", "contradicts delay")),
            (Some(delay), None) => job.delay(time("delay", delay)?),
            (None, Some(moment)) => job.run_at(moment),
            (None, None) => job,
        };
        if let Some(id) = self.id {
            job = job.id(id);
        }
        if let Some(key) = &self.unique {
            job = job.unique(key);
        }
        if let Some(owner) = owner {
            job = job.owner(owner);
        }
        if let Some(trace) = trace {
            job = job.trace(trace);
        }
        Ok(Asked::Job(Box::new(job)))
    }

    fn tasks(&self) -> Result<Vec<(String, Task)>, Problem> {
        match (&self.kind, self.tasks.as_slice()) {
            (Some(kind), []) => {
                let task = task(kind, &self.payload, self.timeout.as_deref(), self.retry.as_ref(), "")?;
                Ok(vec![(kind.clone(), task)])
            }
            (None, [_, ..]) if self.payload.is_null() && self.timeout.is_none() && self.retry.is_none() => {
                self.tasks.iter().map(TaskForm::read).collect()
            }
            (None, []) => Err(refuse("kind", "is required, or tasks are")),
            _ => Err(refuse("tasks", "have a kind, a payload, a timeout and a retry of their own")),
        }
    }

    /// Creates a job of one task each time.
    fn schedule(self, expression: &str, owner: Option<&str>) -> Result<Asked, Problem> {
        let none = [
            ("id", self.id.is_none()),
            ("delay", self.delay.is_none()),
            ("run_at", self.run_at.is_none()),
            ("unique", self.unique.is_none()),
            ("timeout", self.timeout.is_none()),
            ("retry", self.retry.is_none()),
            ("tasks", self.tasks.is_empty()),
        ];
        if let Some((field, _)) = none.into_iter().find(|(_, is_none)| !is_none) {
            return Err(refuse(field, "doesn't go with cron"));
        }
        let kind = self.kind.ok_or_else(|| refuse("kind", "is required"))?;
        let name = self.name.unwrap_or_else(|| kind.clone());
        let mut schedule = Schedule::untyped(&name, expression, &kind, self.payload)
            .priority(self.priority)
            .missed(self.missed.unwrap_or_default());
        if let Some(owner) = owner {
            schedule = schedule.owner(owner);
        }
        Ok(Asked::Schedule(name, schedule))
    }
}

impl TaskForm {
    fn read(&self) -> Result<(String, Task), Problem> {
        let name = self.name.as_ref().unwrap_or(&self.kind);
        let place = format!("tasks.{name}.");
        let task = task(&self.kind, &self.payload, self.timeout.as_deref(), self.retry.as_ref(), &place)?;
        Ok((name.clone(), task.after(self.after.iter().map(String::as_str))))
    }
}

/// `place` stands before the names of its fields.
fn task(
    kind: &str,
    payload: &Value,
    timeout: Option<&str>,
    retry: Option<&RetryForm>,
    place: &str,
) -> Result<Task, Problem> {
    let mut task = Task::untyped(kind, payload.clone());
    if let Some(text) = timeout {
        task = task.timeout(time(&format!("{place}timeout"), text)?);
    }
    if let Some(retry) = retry {
        task = task.retry(retry.read(&format!("{place}retry"))?);
    }
    Ok(task)
}

impl RetryForm {
    fn read(&self, place: &str) -> Result<Retry, Problem> {
        let attempts = self.attempts.unwrap_or(Retry::SCHEDULE.attempts);
        let time = |field: &str, text: &str| time(&format!("{place}.{field}"), text);
        let pace = match (&self.every, &self.first, &self.longest) {
            (None, None, None) => Pace::Schedule,
            (Some(every), None, None) => Pace::Even { every: time("every", every)? },
            (None, Some(first), Some(longest)) => {
                Pace::Doubling { first: time("first", first)?, longest: time("longest", longest)? }
            }
            _ => return Err(refuse(place, "say nothing, every, or first and longest")),
        };
        Ok(Retry { attempts, pace })
    }
}

fn time(field: &str, text: &str) -> Result<Duration, Problem> {
    duration::parse(text).ok_or_else(|| refuse(field, "must be a duration such as 500ms, 5s or 12h"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(form: Value) -> String {
        let form: Form = match serde_json::from_value(form) {
            Ok(form) => form,
            Err(error) => return error.to_string(),
        };
        match form.read(Some("alice"), None) {
            Ok(_) => panic!("it is read"),
            Err(problem) => problem.detail.into_owned(),
        }
    }

    #[test]
    fn a_job_and_a_schedule_are_told_apart_by_cron() {
        let read = |form| serde_json::from_value::<Form>(form).unwrap().read(Some("alice"), None).unwrap();
        assert!(matches!(read(json!({"kind": "mail", "delay": "5s", "priority": "high"})), Asked::Job(_)));
        let tasks = json!([{"kind": "a"}, {"name": "b", "kind": "a", "after": ["a"], "retry": {"every": "1s"}}]);
        assert!(matches!(read(json!({"name": "two", "tasks": tasks})), Asked::Job(_)));
        let Asked::Schedule(name, _) = read(json!({"kind": "mail", "cron": "0 * * * *", "missed": "once"})) else {
            panic!("no schedule")
        };
        assert_eq!(name, "mail");
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (form, field) in [
            (json!({}), "name"),
            (json!({"name": "x"}), "kind"),
            (json!({"kind": "mail", "delay": "soon"}), "delay"),
            (json!({"kind": "mail", "delay": "5s", "run_at": "2026-11-21T06:00:00Z"}), "run_at"),
            (json!({"kind": "mail", "missed": "once"}), "missed"),
            (json!({"kind": "mail", "cron": "0 * * * *", "delay": "5s"}), "delay"),
            (json!({"kind": "mail", "tasks": [{"kind": "mail"}]}), "tasks"),
            (json!({"name": "x", "payload": 1, "tasks": [{"kind": "mail"}]}), "tasks"),
            (json!({"name": "x", "tasks": [{"kind": "mail", "timeout": "x"}]}), "tasks.mail.timeout"),
            (json!({"kind": "mail", "retry": {"every": "1s", "first": "1s"}}), "retry"),
            (json!({"kind": "mail", "retry": {"every": "often"}}), "retry.every"),
        ] {
            let detail = refused(form.clone());
            assert!(detail.starts_with(&format!("{field}: ")), "{form}: {detail}");
        }
        assert!(refused(json!({"kind": "mail", "priority": "urgent"})).contains("urgent"));
        assert!(refused(json!({"kind": "mail", "payloat": 1})).contains("payloat"));
    }
}
