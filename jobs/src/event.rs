//! Tasks as events: which queue and event name they have, and what stands in them.
//!
//! A run of a task is one event, keyed by the job's id, whose own id follows from job, task and run: published again, it is
//! a duplicate. It names the task; what the task is stands in the database.

use events::{Envelope, Name};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Priority, kind};

pub(crate) const SOURCE: &str = "/jobs";
/// What ids that follow from names are made in.
const NAMESPACE: Uuid = Uuid::from_u128(0x3f1f_6c0e_9c3b_5d0e_8d0a_7475_726e_7069);

/// A run of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub job: Uuid,
    /// Its place among the job's tasks.
    pub task: usize,
    pub run: u32,
}

/// What else its event says.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub run: Run,
    pub kind: String,
    pub priority: Priority,
    pub owner: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

impl Wanted {
    pub fn envelope(&self) -> Envelope {
        let Run { job, task, run } = self.run;
        let mut envelope = Envelope::new(SOURCE, queue(self.priority), name(&self.kind))
            .id(Uuid::new_v5(&job, format!("task/{task}/{run}").as_bytes()).to_string())
            .subject(format!("jobs/{job}"))
            .partitionkey(job.to_string())
            .data(serde_json::json!({ "job": job, "task": task, "run": run }));
        envelope.owner.clone_from(&self.owner);
        envelope.traceparent.clone_from(&self.traceparent);
        envelope.tracestate.clone_from(&self.tracestate);
        envelope
    }
}

impl Run {
    /// None: it is no event of ours, since nobody else has this source.
    pub fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.source != SOURCE {
            return None;
        }
        serde_json::from_value(envelope.json()?.clone()).ok()
    }
}

/// The queue of a priority.
pub(crate) fn queue(priority: Priority) -> Name {
    known(match priority {
        Priority::High => "JOBS_HIGH",
        Priority::Normal => "JOBS",
        Priority::Low => "JOBS_LOW",
    })
}

/// The event name of a kind, which has been checked.
pub(crate) fn name(kind: &str) -> Name {
    known(&kind.to_ascii_uppercase())
}

/// The group of those who work on a kind, in the queue of a priority.
pub(crate) fn group(kind: &str, priority: Priority) -> String {
    format!("jobs.{kind}.{}", priority.as_str())
}

/// The kind and the priority that such a group is for.
pub(crate) fn of_group(name: &str) -> Option<(&str, Priority)> {
    let (kind, priority) = name.strip_prefix("jobs.")?.rsplit_once('.')?;
    kind::check(kind).ok()?;
    Some((kind, Priority::parse(priority)?))
}

pub(crate) fn step_id(job: Uuid, task: &str, step: &str) -> Uuid {
    Uuid::new_v5(&job, format!("step/{task}/{step}").as_bytes())
}

/// The id of the job that a schedule fires at a moment: whoever fires it, it is one.
pub(crate) fn firing_id(schedule: &str, at: time::OffsetDateTime) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{schedule}/{}", at.unix_timestamp()).as_bytes())
}

#[expect(clippy::expect_used, reason = "every kind's name, in capitals, is a name")]
fn known(name: &str) -> Name {
    Name::new(name).expect("a name")
}
