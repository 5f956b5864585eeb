//! Every metric of this crate, bound to its labels once, so that a request costs additions only.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundGauge, BoundHistogram, Counter, Gauge, Histogram},
};

use crate::ErrorKind;

struct Instruments {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    retries: Counter<u64>,
    healthy: Gauge<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = telemetry::meter("upstream");
    Instruments {
        requests: meter
            .u64_counter("turnpike_upstream_requests")
            .with_description("Requests to an upstream by outcome, retries not counted")
            .build(),
        seconds: meter
            .f64_histogram("turnpike_upstream_request_seconds")
            .with_description("Seconds until an upstream's answer began, retries included")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        retries: meter
            .u64_counter("turnpike_upstream_retries")
            .with_description("Retries by what was wrong with the try before; `budget`: retries the budget refused")
            .build(),
        healthy: meter
            .u64_gauge("turnpike_upstream_endpoint_healthy")
            .with_description("1 where active checks find the endpoint healthy or there are none, 0 otherwise")
            .build(),
    }
});

/// What an upstream's requests are counted in.
pub(crate) struct Requests {
    answered: BoundCounter<u64>,
    unreachable: BoundCounter<u64>,
    deadline: BoundCounter<u64>,
    broken: BoundCounter<u64>,
    request_body: BoundCounter<u64>,
    seconds: BoundHistogram<f64>,
    upstream: KeyValue,
}

impl Requests {
    pub fn new(upstream: &str) -> Self {
        let upstream = KeyValue::new("upstream", upstream.to_owned());
        let outcome =
            |outcome: &'static str| INSTRUMENTS.requests.bind(&[upstream.clone(), KeyValue::new("outcome", outcome)]);
        Self {
            answered: outcome("answered"),
            unreachable: outcome("unreachable"),
            deadline: outcome("deadline"),
            broken: outcome("broken"),
            request_body: outcome("request_body"),
            seconds: INSTRUMENTS.seconds.bind(std::slice::from_ref(&upstream)),
            upstream,
        }
    }

    pub fn finished(&self, failure: Option<ErrorKind>, took: Duration) {
        let counter = match failure {
            None => &self.answered,
            Some(ErrorKind::Unreachable) => &self.unreachable,
            Some(ErrorKind::Deadline) => &self.deadline,
            Some(ErrorKind::Broken) => &self.broken,
            Some(ErrorKind::RequestBody) => &self.request_body,
        };
        counter.add(1);
        self.seconds.record(took.as_secs_f64());
    }

    pub fn retried(&self, reason: &'static str) {
        INSTRUMENTS.retries.add(1, &[self.upstream.clone(), KeyValue::new("reason", reason)]);
    }
}

/// Whether an endpoint is healthy.
pub(crate) struct Healthy(BoundGauge<u64>);

impl Healthy {
    pub fn new(upstream: &str, endpoint: &str) -> Self {
        Self(
            INSTRUMENTS.healthy.bind(&[
                KeyValue::new("upstream", upstream.to_owned()),
                KeyValue::new("endpoint", endpoint.to_owned()),
            ]),
        )
    }

    pub fn set(&self, healthy: bool) {
        self.0.record(u64::from(healthy));
    }
}
