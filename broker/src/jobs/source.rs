//! Events that make jobs: `jobs: [{ filter: "DEVICES/*", kind: handle_reading }]` in the role's configuration.
//!
//! A group of the broker's takes them, and makes one job of each; the job's id follows from the event's, so that an event that comes
//! again makes none. The task's payload is the event.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode, Start};
use events::Filter;
use jobs::{Error, Jobs, NewJob, Priority, Task};
use lifecycle::Shutdown;
use serde::Deserialize;
use telemetry::TraceContext;
use uuid::Uuid;

use crate::access::Caller;

/// The most of them.
const MOST: usize = 64;
/// What the ids of such jobs are made in.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c6f_13d2_0b7e_5a41_9d3e_6a6f_6273_6f66);

/// Events that each make a job of one task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSource {
    /// Which events: of one queue.
    pub filter: String,
    /// The task's kind; one source each.
    pub kind: String,
    #[serde(default)]
    pub priority: Priority,
    /// Where its group begins when it is new; the oldest event that is kept unless said.
    #[serde(default)]
    pub start: Start,
}

struct Maker {
    jobs: Jobs,
    kind: String,
    priority: Priority,
}

impl JobSource {
    /// What contradicts itself, by its place.
    pub fn faults(sources: &[Self]) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if sources.len() > MOST {
            faults.push((String::new(), format!("must be at most {MOST}")));
        }
        for (at, source) in sources.iter().enumerate() {
            if let Err(error) = source.group() {
                faults.push((format!("[{at}]"), error.to_string()));
            }
            if sources[..at].iter().any(|other| other.kind == source.kind) {
                faults.push((format!("[{at}].kind"), "stands there twice".to_owned()));
            }
        }
        faults
    }

    fn group(&self) -> anyhow::Result<Group> {
        anyhow::ensure!(jobs::is_group(&jobs::group_of(&self.kind, self.priority)), "kind: {:?} is none", self.kind);
        let filter: Filter = self.filter.parse().map_err(|error| anyhow::anyhow!("filter: {error}"))?;
        // Each job would make another.
        anyhow::ensure!(
            !Caller::is_of_jobs(&filter.queue),
            "filter: the queue {} is for the tasks of jobs",
            filter.queue
        );
        let mut group = Group::new(&format!("job-source.{}", self.kind), filter, Mode::Parallel);
        group.start = self.start;
        group.validate().map_err(|error| anyhow::anyhow!("kind: {error}"))?;
        Ok(group)
    }

    /// Makes jobs until the drain.
    pub(crate) async fn run(self, bus: Bus, jobs: Jobs, shutdown: Shutdown) {
        let maker = Maker { jobs, kind: self.kind.clone(), priority: self.priority };
        let made = async {
            let consumer = Consumer::new(bus, self.group()?, Arc::new(maker)).role(crate::NAME);
            consumer.run(shutdown.draining().clone(), shutdown.dropping().clone()).await
        };
        if let Err(error) = made.await {
            tracing::error!(kind = self.kind, %error, "no jobs are made of events");
        }
    }
}

#[async_trait]
impl Handler for Maker {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let event = &*delivery.envelope;
        let payload = serde_json::to_value(event).map_err(|error| Failure::Dead { reason: error.to_string() })?;
        let id = Uuid::new_v5(&NAMESPACE, format!("{}\n{}\n{}", self.kind, event.source, event.id).as_bytes());
        let mut job =
            NewJob::new(&self.kind).task(&self.kind, Task::untyped(&self.kind, payload)).priority(self.priority).id(id);
        if let Some(owner) = &event.owner {
            job = job.owner(owner);
        }
        if let Some(trace) = TraceContext::of(event.traceparent.as_deref(), event.tracestate.as_deref()) {
            job = job.trace(trace);
        }
        match self.jobs.create(job).await {
            Ok(_) => Ok(()),
            // It won't be taken the next time either.
            Err(Error::Invalid(reason)) => Err(Failure::Dead { reason }),
            Err(error) => Err(Failure::Retry { reason: error.to_string(), delay: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_named_by_its_place() {
        let source = |filter: &str, kind: &str| JobSource {
            filter: filter.to_owned(),
            kind: kind.to_owned(),
            priority: Priority::Normal,
            start: Start::Earliest,
        };
        let faults = |sources: &[JobSource]| -> Vec<String> {
            JobSource::faults(sources).into_iter().map(|(place, _)| place).collect()
        };
        assert!(faults(&[source("DEVICES/*", "read"), source("DEVICES/*", "warn")]).is_empty());
        let wrong = [
            source("DEVICES/*", "read"),
            source("DEVICES/A", "read"),
            source("devices", "x"),
            source("A/*", "two words"),
            source("JOBS/*", "all"),
        ];
        assert_eq!(faults(&wrong), ["[1].kind", "[2]", "[3]", "[4]"]);
        assert_eq!(faults(&vec![source("A/*", "read"); 65]).len(), 65);
    }
}
