//! Tasks for workers that are elsewhere: in another language, behind a network. What a handler does in a [`crate::Worker`],
//! whoever calls does by calls: claim, say that it lives, end.
//!
//! Between calls nothing is kept of a worker but rows and leases, so that each may reach another process. An attempt that is
//! not heard of until its lease ends is lost, and the task somebody else's. One that lives longer than the task's timeout is
//! cut off the next time it is heard of.

use std::{collections::BTreeMap, time::Duration};

use bus::{Claim, Leased, Settlement, Verb};
use futures_util::future::select_all;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Jobs, Priority, Retry, State, Ticket,
    counter::IDLE,
    event::{self, Run},
    job::Progress,
    kind::{self, TIMEOUT},
    lane::group,
    machine::Told,
    metrics,
    plan::MAX_DATA_BYTES,
    share::WEIGHTS,
    store::{Ended, Held, Started},
    work::{DEFER, LONGEST_DELAY},
    worker::LEASE,
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

    /// Hands out tasks of these kinds, 16 : 4 : 1 by priority where all wait; waits for the first until `over`.
    ///
    /// Call it to its end, and give back what nobody is there for any more: cut off in between, a task stays begun until its
    /// lease ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Unavailable`].
    pub async fn claim(&self, ask: &Ask, over: impl Future<Output = ()>) -> Result<Vec<Handed>, Error> {
        ask.check()?;
        let bus = self.jobs.bus();
        let groups = ask.kinds.iter().flat_map(|kind| Priority::ALL.map(|priority| event::group(kind, priority)));
        let mut claimable: Vec<_> = groups.map(|group| bus.claimable(&group)).collect();
        let mut over = std::pin::pin!(over);
        loop {
            claimable.iter_mut().for_each(|group| _ = group.borrow_and_update());
            let handed = self.claim_now(ask).await?;
            if !handed.is_empty() {
                return Ok(handed);
            }
            let woken = select_all(claimable.iter_mut().map(|group| {
                Box::pin(async move {
                    // Without a sender it is looked at in its time.
                    if group.changed().await.is_err() {
                        std::future::pending().await
                    }
                })
            }));
            tokio::select! {
                () = over.as_mut() => return Ok(handed),
                _ = woken => {}
                () = tokio::time::sleep(IDLE) => {}
            }
        }
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

    async fn claim_now(&self, ask: &Ask) -> Result<Vec<Handed>, Error> {
        let mut handed = Vec::new();
        let mut hungry = [true; 3];
        while handed.len() < ask.max
            && let Some(at) = draw(hungry, self.jobs.jitter())
        {
            match self.claim_one(ask, Priority::ALL[at]).await {
                Ok(None) => hungry[at] = false,
                Ok(Some((group, leased))) => handed.extend(self.begin(ask, group, leased).await),
                // What it has it is to get.
                Err(_) if !handed.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(handed)
    }

    /// A delivery of one of the kinds, in an order that favours none.
    async fn claim_one(&self, ask: &Ask, priority: Priority) -> Result<Option<(String, Leased)>, Error> {
        let away = |error: bus::Error| Error::Unavailable(error.to_string());
        let mut kinds: Vec<&String> = ask.kinds.iter().collect();
        kinds.shuffle(&mut rand::rng());
        let bus = self.jobs.bus();
        for kind in kinds {
            let group = group(kind, priority, LEASE);
            let claim = Claim { group: group.name.clone(), member: ask.worker.clone(), max: 1, bytes: 1 << 20 };
            let claimed = match bus.claim(claim.clone()).await {
                // Nobody has worked on the kind yet, or the bus was reset.
                Err(bus::Error::NoGroup(_) | bus::Error::NoQueue(_)) => {
                    bus.declare_group(group).await.map_err(away)?;
                    bus.claim(claim.clone()).await
                }
                claimed => claimed,
            };
            if let Some(leased) = claimed.map_err(away)?.leased.pop() {
                return Ok(Some((claim.group, leased)));
            }
        }
        Ok(None)
    }

    /// None: there is nothing to do for the delivery, or it can't begin now and comes again.
    async fn begin(&self, ask: &Ask, group: String, leased: Leased) -> Option<Handed> {
        let jobs = &self.jobs;
        let verb = match Run::of(&leased.envelope) {
            None => Verb::Dead { reason: "it is no task".to_owned() },
            Some(run) => match jobs.store().begin(run, Retry::SCHEDULE, &ask.worker, jobs.now()).await {
                Ok(Some(started)) => {
                    let ticket = Ticket { group, token: leased.token, run, start: started.start };
                    match self.handed(&ticket, started, &leased) {
                        Ok(handed) => return Some(handed),
                        Err(error) => {
                            let reason = error.to_string();
                            _ = self.end(&ticket, Outcome::Failed { reason }).await;
                            return None;
                        }
                    }
                }
                Ok(None) => Verb::Ack,
                Err(error) => {
                    tracing::warn!(%error, "a task can't begin");
                    Verb::Defer { delay: DEFER }
                }
            },
        };
        self.settle(&group, leased.token, verb).await;
        None
    }

    fn handed(&self, ticket: &Ticket, started: Started, leased: &Leased) -> Result<Handed, Error> {
        let read = |json: &str| serde_json::from_str(json).map_err(|error| Error::Stored(error.to_string()));
        let kind = event::of_group(&ticket.group).map(|(kind, _)| kind.to_owned()).unwrap_or_default();
        let results = started.results.iter().map(|(task, result)| Ok((task.clone(), read(result)?)));
        Ok(Handed {
            ticket: ticket.clone(),
            job: started.run.job,
            name: started.name,
            task: started.task,
            kind,
            attempt: started.attempt,
            owner: started.owner,
            input: read(&started.input)?,
            results: results.collect::<Result<_, Error>>()?,
            lease_until: leased.until,
            timeout_at: self.jobs.now() + started.timeout.unwrap_or(TIMEOUT),
            traceparent: leased.envelope.traceparent.clone(),
            tracestate: leased.envelope.tracestate.clone(),
        })
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

impl Ask {
    fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_KINDS).contains(&self.kinds.len()) {
            return Err(Error::Invalid(format!("kinds: {} are not within 1 to {MAX_KINDS}", self.kinds.len())));
        }
        if !(1..=MAX_CLAIM).contains(&self.max) {
            return Err(Error::Invalid(format!("max: {} is not within 1 to {MAX_CLAIM}", self.max)));
        }
        let printable = self.worker.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=64).contains(&self.worker.len()) {
            return Err(Error::Invalid("worker: must be 1 to 64 printable characters, without spaces".to_owned()));
        }
        self.kinds.iter().try_for_each(|kind| kind::check(kind))
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

/// One of those that may have something, by its weight: who asks keeps no turn of its own, so chance shares them out.
fn draw(hungry: [bool; 3], random: f64) -> Option<usize> {
    let weight = |at: &usize| if hungry[*at] { WEIGHTS[*at] } else { 0 };
    let total: i64 = (0..3).map(|at| weight(&at)).sum();
    let mut rest = random * total as f64;
    (0..3).filter(|at| hungry[*at]).find(|at| {
        rest -= weight(at) as f64;
        rest < 0.0
    })
}

fn as_text<S: serde::Serializer>(ticket: &Ticket, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_full_queues_share_chance_16_to_4_to_1() {
        let mut drawn = [0; 3];
        for turn in 0..2100 {
            drawn[draw([true; 3], f64::from(turn) / 2100.0).unwrap()] += 1;
        }
        assert_eq!(drawn, [1600, 400, 100]);
        assert_eq!(draw([false, false, true], 0.999), Some(2));
        assert_eq!(draw([false; 3], 0.5), None);
    }
}
