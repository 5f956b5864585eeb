//! The metrics of jobs, each name written once.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

use crate::State;

/// Upper bounds, in seconds, of how long an attempt takes: from a moment to the longest that is allowed.
const WORK_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 43_200.0];

struct Metrics {
    created: Counter<u64>,
    ended: Counter<u64>,
    fired: Counter<u64>,
    attempts: Counter<u64>,
    attempt_seconds: Histogram<f64>,
    republished: Counter<u64>,
    running: Gauge<u64>,
    jobs: Gauge<u64>,
    oldest_pending: Gauge<f64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("jobs");
    let counter = |name, help| meter.u64_counter(name).with_description(help).build();
    let gauge = |name, help| meter.u64_gauge(name).with_description(help).build();
    Metrics {
        created: counter("turnpike_jobs_created", "Jobs created, by result (created, existing)."),
        ended: counter("turnpike_jobs_ended", "Jobs that ended, by state."),
        fired: counter("turnpike_jobs_fired", "Jobs created by schedules."),
        attempts: counter("turnpike_jobs_attempts", "Attempts at tasks, by kind and how they ended."),
        attempt_seconds: meter
            .f64_histogram("turnpike_jobs_attempt_seconds")
            .with_description("Seconds an attempt at a task took, by kind.")
            .with_boundaries(WORK_BUCKETS.to_vec())
            .build(),
        republished: counter(
            "turnpike_jobs_republished",
            "Tasks put on the bus again, because it lost them or they waited there for three days.",
        ),
        running: gauge("turnpike_jobs_running", "Tasks that a worker of this process works on."),
        jobs: gauge("turnpike_jobs", "Jobs that are kept, by state."),
        oldest_pending: meter
            .f64_gauge("turnpike_jobs_oldest_pending_seconds")
            .with_description("Age of the oldest job that waits for a worker; 0: there is none.")
            .build(),
    }
});

pub(crate) fn created(existing: bool) {
    METRICS.created.add(1, &[KeyValue::new("result", if existing { "existing" } else { "created" })]);
}

pub(crate) fn ended(state: State) {
    METRICS.ended.add(1, &[KeyValue::new("state", state.as_str())]);
}

pub(crate) fn fired(jobs: u64) {
    METRICS.fired.add(jobs, &[]);
}

/// `completed`, `retried`, `failed`, `given_back`, `cancelled`, `lost`, `poisoned`.
pub(crate) fn attempted(kind: &str, outcome: &'static str) {
    METRICS.attempts.add(1, &[KeyValue::new("kind", kind.to_owned()), KeyValue::new("outcome", outcome)]);
}

pub(crate) fn took(kind: &str, time: Duration) {
    METRICS.attempt_seconds.record(time.as_secs_f64(), &[KeyValue::new("kind", kind.to_owned())]);
}

pub(crate) fn republished(tasks: u64) {
    METRICS.republished.add(tasks, &[]);
}

pub(crate) fn running(tasks: usize) {
    METRICS.running.record(tasks as u64, &[]);
}

pub(crate) fn standing(counts: &BTreeMap<State, u64>, oldest_pending: Duration) {
    for state in State::ALL {
        METRICS.jobs.record(counts.get(&state).copied().unwrap_or(0), &[KeyValue::new("state", state.as_str())]);
    }
    METRICS.oldest_pending.record(oldest_pending.as_secs_f64(), &[]);
}
