//! One attempt: begun in the database, handled, ended in the database, settled on the bus. Whatever dies in between, the
//! lease ends and somebody begins it again; whoever lost it can't end it.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bus::{Leased, Settlement, Verb};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    Error, Failure, Job, Jobs,
    event::Run,
    job::Line,
    live::Live,
    metrics,
    store::{Ended, Started},
    worker::Registered,
};

/// How long a cancelled handler may go on.
const GRACE: Duration = Duration::from_secs(5);
/// How long it is waited before a database that is away is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a task that can't begin stays with the bus.
pub(crate) const DEFER: Duration = Duration::from_secs(1);
/// The longest a handler may put off its next attempt.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// What an attempt needs of its worker.
#[derive(Clone)]
pub(crate) struct Desk {
    pub jobs: Jobs,
    pub worker: String,
    pub role: Option<&'static str>,
    pub lease: Duration,
    pub live: Arc<Live>,
    /// All must end now.
    pub dropping: CancellationToken,
}

/// A delivery, and what works on it.
pub(crate) struct Attempt {
    pub desk: Desk,
    pub kind: Arc<Registered>,
    pub group: String,
    pub leased: Leased,
}

impl Attempt {
    pub async fn run(self) {
        let span = self.span();
        self.work().instrument(span).await;
    }

    async fn work(&self) {
        let verb = tokio::select! {
            verb = self.work_through() => verb,
            () = self.lose_lease() => {
                metrics::attempted(self.kind.name, "lost");
                tracing::warn!(group = self.group, "the lease of a task is lost: somebody else has it");
                return;
            }
        };
        // Where this fails the lease ends by itself, and what comes again is known to be done.
        if let Some(verb) = verb {
            let settlement = Settlement { token: self.leased.token, verb };
            if let Err(error) = self.desk.jobs.bus().settle(&self.group, vec![settlement]).await {
                tracing::debug!(%error, "a task's delivery is not settled");
            }
        }
    }

    /// What to settle the delivery with; None: leave it to the end of its lease.
    async fn work_through(&self) -> Option<Verb> {
        let Some(run) = Run::of(&self.leased.envelope) else {
            return Some(Verb::Dead { reason: "it is no task".to_owned() });
        };
        let (jobs, kind) = (&self.desk.jobs, &self.kind);
        let started = match jobs.store().begin(run, kind.retry, &self.desk.worker, jobs.now()).await {
            Ok(Some(started)) => started,
            Ok(None) => return Some(Verb::Ack),
            Err(error) => {
                tracing::warn!(%error, "a task can't begin");
                return Some(Verb::Defer { delay: DEFER });
            }
        };
        self.describe(&started);
        lifecycle::abort_point("jobs.begun");
        let began = Instant::now();
        let (ended, outcome) = self.handle(&started).await;
        metrics::took(kind.name, began.elapsed());
        lifecycle::abort_point("jobs.handled");
        let kept = self.end(&started, &ended).await?;
        lifecycle::abort_point("jobs.ended");
        metrics::attempted(kind.name, if kept { outcome } else { "cancelled" });
        match ended {
            Ended::GivenBack => Some(Verb::Release),
            _ => {
                jobs.publish_soon(Some(run.job)).await;
                Some(Verb::Ack)
            }
        }
    }

    async fn handle(&self, started: &Started) -> (Ended, &'static str) {
        let line = Arc::new(Line::new(started.results.clone()));
        let _alive = self.desk.live.enter(started.run, started.start, line.clone());
        // Whatever cuts the handler off, what it has spawned hears of it.
        let _told = line.ending.clone().drop_guard();
        let job = Job {
            id: started.run.job,
            name: started.name.clone(),
            task: started.task.clone(),
            attempt: started.attempt,
            owner: started.owner.clone(),
            input: started.input.clone(),
            line: line.clone(),
        };
        let patience = started.timeout.unwrap_or(self.kind.timeout);
        let cut_off = async {
            line.cancelled.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let work = AssertUnwindSafe((self.kind.handler)(job)).catch_unwind();
        tokio::select! {
            biased;
            done = work => match done {
                Ok(Ok(result)) => (Ended::Done { result }, "completed"),
                Ok(Err(failure)) => self.failed(started, failure, line.ending.is_cancelled()),
                Err(panic) => {
                    let reason = format!("the handler panicked: {}", message(panic.as_ref()));
                    self.failed(started, Failure::retry(reason), false)
                }
            },
            () = self.desk.dropping.cancelled() => (Ended::GivenBack, "given_back"),
            () = cut_off => (Ended::GivenBack, "cancelled"),
            () = tokio::time::sleep(patience) => {
                self.failed(started, Failure::retry(format!("the handler took longer than {patience:?}")), false)
            }
        }
    }

    /// What follows from a failure. `told`: the handler was told to end.
    fn failed(&self, started: &Started, failure: Failure, told: bool) -> (Ended, &'static str) {
        let (error, delay) = match failure {
            Failure::GivenBack if told => return (Ended::GivenBack, "given_back"),
            Failure::GivenBack => ("given back though nobody had asked for it".to_owned(), None),
            Failure::Fatal { reason } => {
                tell_span("fatal", &reason);
                return (Ended::Failed { error: reason }, "failed");
            }
            Failure::Retry { reason, delay } => (reason, delay),
        };
        let jobs = &self.desk.jobs;
        tell_span("retry", &error);
        match started.retry.delay(started.attempt, jobs.jitter()) {
            Some(wait) => {
                let due = jobs.now() + delay.map_or(wait, |delay| delay.min(LONGEST_DELAY));
                (Ended::Retry { due, error }, "retried")
            }
            None => (Ended::Failed { error }, "failed"),
        }
    }

    /// False: what was done doesn't count, since the task was cancelled. None: the database is away, and all must end.
    async fn end(&self, started: &Started, ended: &Ended) -> Option<bool> {
        let jobs = &self.desk.jobs;
        loop {
            match jobs.store().end(started.run, started.start, ended, jobs.now()).await {
                Ok(true) => return Some(true),
                Ok(false) => {
                    _ = jobs.store().heard(started.run, started.start).await;
                    return Some(false);
                }
                Err(Error::Unavailable(reason)) => {
                    tracing::warn!(reason, "the end of a task can't be stored yet");
                    if tokio::time::timeout(PAUSE, self.desk.dropping.cancelled()).await.is_ok() {
                        return None;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the end of a task can't be stored");
                    return None;
                }
            }
        }
    }

    /// Extends the lease until it is lost.
    async fn lose_lease(&self) {
        loop {
            tokio::time::sleep(self.desk.lease / 3).await;
            let extension = Settlement { token: self.leased.token, verb: Verb::Extend };
            match self.desk.jobs.bus().settle(&self.group, vec![extension]).await {
                Ok(outcomes) if outcomes.iter().any(Result::is_err) => return,
                Err(bus::Error::NoGroup(_) | bus::Error::NoQueue(_)) => return,
                // A bus that is away may be back in time; if not, the database knows who began it last.
                _ => {}
            }
        }
    }

    /// A child of the trace that the job was created in.
    fn span(&self) -> Span {
        let envelope = &*self.leased.envelope;
        let span = tracing::info_span!(
            parent: None,
            "process",
            otel.name = %format_args!("process {}", self.kind.name),
            otel.kind = "consumer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            turnpike.role = self.desk.role,
            messaging.system = "turnpike",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = envelope.queue.as_str(),
            messaging.consumer.group.name = self.group,
            messaging.message.id = envelope.id,
            turnpike.job.id = Empty,
            turnpike.job.kind = self.kind.name,
            turnpike.job.task = Empty,
            turnpike.attempt = Empty,
            error.type = Empty,
        );
        let parent = telemetry::TraceContext::of(envelope.traceparent.as_deref(), envelope.tracestate.as_deref());
        if let Some(parent) = parent {
            telemetry::set_parent(&span, &parent);
        }
        span
    }

    fn describe(&self, started: &Started) {
        let span = Span::current();
        span.record("turnpike.job.id", started.run.job.to_string());
        span.record("turnpike.job.task", &started.task);
        span.record("turnpike.attempt", started.attempt);
    }
}

fn tell_span(kind: &str, error: &str) {
    let span = Span::current();
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error);
    span.record("error.type", kind);
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}
