//! Every metric of this crate, bound to its labels once, so that a request costs additions only.

use std::{
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, BoundCounter, BoundHistogram, Counter, Histogram, ObservableGauge},
};
use parking_lot::Mutex;

use crate::ErrorKind;

struct Instruments {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    retries: Counter<u64>,
    hedges: Counter<u64>,
    refused: Counter<u64>,
    ejections: Counter<u64>,
    /// Only holds the callback.
    _breaker: ObservableGauge<u64>,
    /// Only holds the callback.
    _healthy: ObservableGauge<u64>,
    /// Only holds the callback.
    _known: ObservableGauge<u64>,
}

/// Endpoints there are, and some that were until just now.
static SHOWN: Mutex<Vec<Weak<Shown>>> = Mutex::new(Vec::new());

/// Sources there are.
static SOURCES: Mutex<Vec<Weak<Shown>>> = Mutex::new(Vec::new());

/// Breakers there are.
static POSITIONS: Mutex<Vec<Weak<Stands>>> = Mutex::new(Vec::new());

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
        hedges: meter
            .u64_counter("turnpike_upstream_hedges")
            .with_description("Second tries beside a first: `won`, `lost`, and `budget`: hedges the budget refused")
            .build(),
        refused: meter
            .u64_counter("turnpike_upstream_refused")
            .with_description(
                "Requests an upstream was not asked: by its `breaker`, or a cap: `connections`, `pending`, `requests`",
            )
            .build(),
        ejections: meter
            .u64_counter("turnpike_upstream_ejections")
            .with_description("Endpoints taken out for a while because their requests failed")
            .build(),
        _breaker: meter
            .u64_observable_gauge("turnpike_upstream_breaker")
            .with_description("How an upstream's breaker stands: 0 closed, 1 closing, 2 half-open, 3 open")
            .with_callback(|observer| {
                POSITIONS.lock().retain(|shown| {
                    let shown = shown.upgrade();
                    shown.is_some_and(|shown| {
                        observer.observe(shown.position.load(Relaxed), std::slice::from_ref(&shown.upstream));
                        true
                    })
                });
            })
            .build(),
        _healthy: meter
            .u64_observable_gauge("turnpike_upstream_endpoint_healthy")
            .with_description("1 where active checks find the endpoint healthy or there are none, 0 otherwise")
            .with_callback(|observer| observe(&SHOWN, observer))
            .build(),
        _known: meter
            .u64_observable_gauge("turnpike_upstream_source_known")
            .with_description("1 where it could be found out the last time where endpoints are, 0 otherwise")
            .with_callback(|observer| observe(&SOURCES, observer))
            .build(),
    }
});

/// What an upstream's requests are counted in.
pub(crate) struct Requests {
    answered: BoundCounter<u64>,
    unreachable: BoundCounter<u64>,
    refused: BoundCounter<u64>,
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
            refused: outcome("refused"),
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
            Some(ErrorKind::Full | ErrorKind::Open { .. }) => &self.refused,
            Some(ErrorKind::Deadline) => &self.deadline,
            Some(ErrorKind::Broken) => &self.broken,
            Some(ErrorKind::RequestBody) => &self.request_body,
        };
        counter.add(1);
        self.seconds.record(took.as_secs_f64());
    }

    pub fn refused(&self, reason: &'static str) {
        INSTRUMENTS.refused.add(1, &[self.upstream.clone(), KeyValue::new("reason", reason)]);
    }

    pub fn hedged(&self, outcome: &'static str) {
        INSTRUMENTS.hedges.add(1, &[self.upstream.clone(), KeyValue::new("outcome", outcome)]);
    }

    pub fn retried(&self, reason: &'static str) {
        INSTRUMENTS.retries.add(1, &[self.upstream.clone(), KeyValue::new("reason", reason)]);
    }
}

pub(crate) fn ejected(upstream: &str) {
    INSTRUMENTS.ejections.add(1, &[KeyValue::new("upstream", upstream.to_owned())]);
}

/// How a breaker stands: shown as long as there is such an upstream.
pub(crate) struct Position(Arc<Stands>);

struct Stands {
    upstream: KeyValue,
    position: AtomicU64,
}

impl Position {
    pub fn new(upstream: &str) -> Self {
        LazyLock::force(&INSTRUMENTS);
        let upstream = KeyValue::new("upstream", upstream.to_owned());
        let stands = Arc::new(Stands { upstream, position: AtomicU64::new(0) });
        let mut all = POSITIONS.lock();
        // Nobody may ever look at the metrics.
        all.retain(|stands| stands.strong_count() > 0);
        all.push(Arc::downgrade(&stands));
        Self(stands)
    }

    pub fn set(&self, position: u64) {
        self.0.position.store(position, Relaxed);
    }
}

/// Whether an endpoint is healthy: shown as long as there is such an endpoint, since addresses of a name come and go.
pub(crate) struct Healthy(Arc<Shown>);

struct Shown {
    labels: [KeyValue; 2],
    healthy: AtomicBool,
    is_gone: AtomicBool,
}

/// Whether it could be found out the last time where endpoints are.
pub(crate) struct Known(Arc<Shown>);

impl Known {
    pub fn new(upstream: &str, source: &str) -> Self {
        Self(Shown::new(&SOURCES, upstream, KeyValue::new("source", source.to_owned())))
    }

    pub fn set(&self, known: bool) {
        self.0.healthy.store(known, Relaxed);
    }
}

impl Shown {
    fn new(all: &Mutex<Vec<Weak<Self>>>, upstream: &str, what: KeyValue) -> Arc<Self> {
        LazyLock::force(&INSTRUMENTS);
        let shown = Arc::new(Self {
            labels: [KeyValue::new("upstream", upstream.to_owned()), what],
            healthy: AtomicBool::new(true),
            is_gone: AtomicBool::new(false),
        });
        let mut all = all.lock();
        // Nobody may ever look at the metrics.
        all.retain(|shown| shown.strong_count() > 0);
        all.push(Arc::downgrade(&shown));
        shown
    }
}

fn observe(all: &Mutex<Vec<Weak<Shown>>>, observer: &dyn AsyncInstrument<u64>) {
    all.lock().retain(|shown| {
        let shown = shown.upgrade().filter(|shown| !shown.is_gone.load(Relaxed));
        shown.is_some_and(|shown| {
            observer.observe(u64::from(shown.healthy.load(Relaxed)), &shown.labels);
            true
        })
    });
}

impl Healthy {
    pub fn new(upstream: &str, endpoint: &str) -> Self {
        Self(Shown::new(&SHOWN, upstream, KeyValue::new("endpoint", endpoint.to_owned())))
    }

    pub fn set(&self, healthy: bool) {
        self.0.healthy.store(healthy, Relaxed);
    }

    /// It is no endpoint any more, though requests under way may yet hold it.
    pub fn retire(&self) {
        self.0.is_gone.store(true, Relaxed);
    }
}
