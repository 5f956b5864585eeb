//! What is told of jobs.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Error, Kind, Priority, State};

/// A job, without its tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobStatus {
    pub id: Uuid,
    pub name: String,
    pub state: State,
    pub priority: Priority,
    pub owner: Option<String>,
    /// What it was unique by.
    pub key: Option<String>,
    /// The schedule that it was created by.
    pub cron: Option<String>,
    /// How much is done, 0 to 1: the mean of its tasks'.
    pub progress: f64,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub run_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended: Option<OffsetDateTime>,
}

/// A job with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobDetail {
    #[serde(flatten)]
    pub job: JobStatus,
    /// In the order they were given.
    pub tasks: Vec<TaskStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskStatus {
    pub name: String,
    pub kind: String,
    pub state: State,
    pub after: Vec<String>,
    /// 0 to 1.
    pub progress: f64,
    /// What its handler said of its progress last.
    pub note: Option<String>,
    pub result: Option<Value>,
    /// The last error, at most 4 KiB.
    pub error: Option<String>,
    /// The worker that has it, or had it last.
    pub worker: Option<String>,
    /// It was asked to stop, and has not ended yet.
    pub stopping: bool,
    /// When it is due, where it is scheduled or retrying.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due: Option<OffsetDateTime>,
    /// Oldest first, at most 100.
    pub attempts: Vec<Attempt>,
}

/// One attempt at a task. What was given back is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    pub worker: String,
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended: Option<OffsetDateTime>,
    /// `running`, `completed`, `failed`, `cancelled`, or `lost`: its worker died, or lost its lease.
    pub outcome: String,
    pub error: Option<String>,
}

impl JobDetail {
    pub fn task(&self, name: &str) -> Option<&TaskStatus> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// The result of a task of that kind, once it is completed.
    ///
    /// # Errors
    /// [`Error::NoTask`]; [`Error::Stored`] if the result is not the kind's.
    pub fn result<I, O: serde::de::DeserializeOwned>(&self, kind: &Kind<I, O>, task: &str) -> Result<Option<O>, Error> {
        let found = self.task(task).ok_or_else(|| Error::NoTask(self.job.id, task.to_owned()))?;
        found.result.as_ref().map(|result| kind.output(&result.to_string())).transpose()
    }
}

/// Which jobs to list; the default: all. Newest first.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub state: Option<State>,
    pub name: Option<String>,
    /// With a task of this kind.
    pub kind: Option<String>,
    pub owner: Option<String>,
    /// Created then or later.
    pub from: Option<OffsetDateTime>,
    /// Created before.
    pub until: Option<OffsetDateTime>,
    /// Goes on after this place, as a page before said.
    pub after: Option<Place>,
}

/// A place in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub created: OffsetDateTime,
    pub id: Uuid,
}

#[derive(Clone, Debug)]
pub struct Listed {
    pub jobs: Vec<JobStatus>,
    /// Where the next page begins; None: this was the last.
    pub next: Option<Place>,
}

/// How long the final state and the result of a job are kept, unless told otherwise.
pub const KEEP: Duration = Duration::from_secs(30 * 86_400);
