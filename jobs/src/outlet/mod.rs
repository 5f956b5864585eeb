//! Tasks for workers that are elsewhere: in another language, behind a network. What a handler does in a [`crate::Worker`],
//! whoever calls does by calls: claim, say that it lives, end.
//!
//! Between calls nothing is kept of a worker but rows and leases, so that each may reach another process. An attempt that is
//! not heard of until its lease ends is lost, and the task somebody else's. One that lives longer than the task's timeout is
//! cut off the next time it is heard of.

mod claim;

use std::{collections::BTreeMap, time::Duration};

use bus::{Settlement, Verb};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Jobs, State, Ticket, event,
    job::Progress,
    kind::TIMEOUT,
    machine::Told,
    metrics,
    plan::MAX_DATA_BYTES,
    store::{Ended, Held},
    work::LONGEST_DELAY,
};

/// The most tasks of a claim.
pub const MAX_CLAIM: usize = 16;
/// The most kinds of a claim: each is three groups to look at.
pub const MAX_KINDS: usize = 16;

/// Hands out tasks. Clones share the jobs.
#[derive(Clone)]
pub struct Outlet {
    jobs: Jobs,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The kinds that it knows, 1 to 16.
    pub kinds: Vec<String>,
    /// What it is called where its attempts are shown.
    pub worker: String,
    /// At most so many tasks, 1 to 16.
    pub max: usize,
}

/// A task that a worker has now.
#[derive(Clone, Debug, Serialize)]
pub struct Handed {
    #[serde(rename = "token", serialize_with = "as_text")]
    pub ticket: Ticket,
    pub job: Uuid,
    /// The job's name.
    pub name: String,
    /// The task's own within the job.
    pub task: String,
    pub kind: String,
    /// 1 for the first.
    pub attempt: u32,
    pub owner: Option<String>,
    #[serde(rename = "payload")]
    pub input: Value,
    /// The results of the tasks it comes after.
    pub results: BTreeMap<String, Value>,
    /// When another worker gets it, unless it is heard of.
    #[serde(with = "time::serde::rfc3339")]
    pub lease_until: OffsetDateTime,
    /// When the attempt is cut off, whatever is heard of it.
    #[serde(with = "time::serde::rfc3339")]
    pub timeout_at: OffsetDateTime,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed {
        result: Value,
    },
    /// Again: after `delay` (at most 24 h), else by the retry policy; failed where it has no more attempts.
    Retry {
        reason: String,
        delay: Option<Duration>,
    },
    Failed {
        reason: String,
    },
    /// Not done, and no attempt.
    GivenBack,
}

/// What an attempt is told that is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// It should end, and why.
    pub ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It may finish all the same, or give its task back.
    Stop,
    /// What it says doesn't count any more.
    Cancel,
}

impl Outlet {
    pub fn new(jobs: &Jobs) -> Self {
        Self { jobs: jobs.clone() }
    }

    /// An attempt is alive: its lease begins anew, and what it says of its progress is stored (0 to 1, and a note cut at 256
    /// bytes).
    ///
    /// # Errors
    /// [`Error::LeaseLost`] where the task is not its any more, or its time is over; [`Error::Unavailable`].
    pub async fn alive(&self, ticket: &Ticket, progress: Option<(f64, &str)>) -> Result<Alive, Error> {
        let held = self.held(ticket).await?;
        if held.state != State::Running {
            return match held.told {
                Some(Told::Cancel) => Ok(Alive { ending: Some(Ending::Cancel) }),
                _ => Err(Error::LeaseLost),
            };
        }
        let timeout = held.timeout.unwrap_or(TIMEOUT);
        if self.jobs.now() > held.started + timeout {
            let reason = format!("the worker took longer than {timeout:?}");
            self.end_held(ticket, &held, Outcome::Retry { reason, delay: None }).await?;
            return Err(Error::LeaseLost);
        }
        let extension = Settlement { token: ticket.token, verb: Verb::Extend };
        let settled = self.jobs.bus().settle(&ticket.group, vec![extension]).await;
        match settled {
            Ok(outcomes) if outcomes.iter().all(Result::is_ok) => {}
            Ok(_) | Err(bus::Error::NoGroup(_) | bus::Error::NoQueue(_)) => return Err(Error::LeaseLost),
            Err(error) => return Err(Error::Unavailable(error.to_string())),
        }
        if let Some((part, note)) = progress {
            self.jobs.store().progress(&[(ticket.run, ticket.start, Progress::new(part, note))]).await?;
        }
        Ok(Alive { ending: held.told.map(Ending::from) })
    }

    /// An attempt has ended.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] where the task is not its any more; [`Error::Invalid`] for a result of more than 256 KiB, which
    /// ends nothing; [`Error::Unavailable`].
    pub async fn end(&self, ticket: &Ticket, outcome: Outcome) -> Result<(), Error> {
        let held = self.held(ticket).await?;
        self.end_held(ticket, &held, outcome).await
    }

    /// What is known of the ticket's attempt; a ticket that was made up is nobody's.
    async fn held(&self, ticket: &Ticket) -> Result<Held, Error> {
        let held = self.jobs.store().held(ticket.run, ticket.start).await?;
        held.filter(|held| ticket.group == event::group(&held.kind, held.priority)).ok_or(Error::LeaseLost)
    }

    async fn end_held(&self, ticket: &Ticket, held: &Held, outcome: Outcome) -> Result<(), Error> {
        let jobs = &self.jobs;
        let (ended, told) = self.ended(held, outcome)?;
        let now = jobs.now();
        if !jobs.store().end(ticket.run, ticket.start, &ended, now).await? {
            if held.told == Some(Told::Cancel) {
                jobs.store().heard(ticket.run, ticket.start).await?;
                self.settle(&ticket.group, ticket.token, Verb::Ack).await;
            }
            return Err(Error::LeaseLost);
        }
        metrics::took(&held.kind, (now - held.started).try_into().unwrap_or_default());
        metrics::attempted(&held.kind, told);
        let verb = match ended {
            Ended::GivenBack => Verb::Release,
            _ => Verb::Ack,
        };
        self.settle(&ticket.group, ticket.token, verb).await;
        jobs.publish_soon(Some(ticket.run.job)).await;
        Ok(())
    }

    fn ended(&self, held: &Held, outcome: Outcome) -> Result<(Ended, &'static str), Error> {
        Ok(match outcome {
            Outcome::Completed { result } => {
                let result = result.to_string();
                if result.len() > MAX_DATA_BYTES {
                    let reason = format!("result: {} bytes, {MAX_DATA_BYTES} allowed", result.len());
                    return Err(Error::Invalid(reason));
                }
                (Ended::Done { result }, "completed")
            }
            Outcome::Retry { reason, delay } => {
                match held.retry.unwrap_or_default().delay(held.attempt, self.jobs.jitter()) {
                    Some(wait) => {
                        let due = self.jobs.now() + delay.map_or(wait, |delay| delay.min(LONGEST_DELAY));
                        (Ended::Retry { due, error: reason }, "retried")
                    }
                    None => (Ended::Failed { error: reason }, "failed"),
                }
            }
            Outcome::Failed { reason } => (Ended::Failed { error: reason }, "failed"),
            Outcome::GivenBack => (Ended::GivenBack, "given_back"),
        })
    }

    /// Where this fails the lease ends by itself, and what comes again is known to be done.
    async fn settle(&self, group: &str, token: bus::Token, verb: Verb) {
        if let Err(error) = self.jobs.bus().settle(group, vec![Settlement { token, verb }]).await {
            tracing::debug!(%error, "a task's delivery is not settled");
        }
    }
}

impl From<Told> for Ending {
    fn from(told: Told) -> Self {
        match told {
            Told::Stop => Self::Stop,
            Told::Cancel => Self::Cancel,
        }
    }
}

fn as_text<S: serde::Serializer>(ticket: &Ticket, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ticket)
}
