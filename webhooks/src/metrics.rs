//! The metrics of webhooks, each name written once.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

use crate::{Class, Late, Reason};

/// Upper bounds, in seconds, of how long an attempt takes: up to its timeout.
const BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 20.0];

struct Metrics {
    attempts: Counter<u64>,
    attempt_seconds: Histogram<f64>,
    late: Counter<u64>,
    disabled: Counter<u64>,
    rests: Counter<u64>,
    endpoints: Gauge<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("webhooks");
    let counter = |name, help| meter.u64_counter(name).with_description(help).build();
    Metrics {
        attempts: counter("turnpike_webhook_attempt", "Requests to endpoints, by what came of them (class)."),
        attempt_seconds: meter
            .f64_histogram("turnpike_webhook_attempt_seconds")
            .with_description("Seconds a request to an endpoint took, its connection and its answer included.")
            .with_boundaries(BUCKETS.to_vec())
            .build(),
        late: counter("turnpike_webhook_late_ack", "Acknowledgements that came later, by outcome (done, failed)."),
        disabled: counter("turnpike_webhook_disabled", "Endpoints that were disabled, by reason."),
        rests: counter("turnpike_webhook_rest", "How often an endpoint that failed five times in a row was spared."),
        endpoints: meter
            .u64_gauge("turnpike_webhook_endpoints")
            .with_description("Endpoints, by state (enabled, disabled).")
            .build(),
    }
});

pub(crate) fn attempted(class: Class, took: Duration) {
    METRICS.attempts.add(1, &[KeyValue::new("class", class.as_str())]);
    METRICS.attempt_seconds.record(took.as_secs_f64(), &[]);
}

/// Without a request: no acknowledgement came, or one that says it failed.
pub(crate) fn not_acknowledged() {
    METRICS.attempts.add(1, &[KeyValue::new("class", Class::NotAcknowledged.as_str())]);
}

pub(crate) fn acknowledged(late: &Late) {
    let outcome = match late {
        Late::Done => "done",
        Late::Failed(_) => "failed",
    };
    METRICS.late.add(1, &[KeyValue::new("outcome", outcome)]);
}

pub(crate) fn disabled(reason: Reason) {
    METRICS.disabled.add(1, &[KeyValue::new("reason", reason.as_str())]);
}

pub(crate) fn rests() {
    METRICS.rests.add(1, &[]);
}

pub(crate) fn endpoints(enabled: u64, disabled: u64) {
    METRICS.endpoints.record(enabled, &[KeyValue::new("state", "enabled")]);
    METRICS.endpoints.record(disabled, &[KeyValue::new("state", "disabled")]);
}
