//! The outbox's metrics, each with its one label `source`.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge},
};

static OLDEST: LazyLock<Gauge<f64>> = LazyLock::new(|| {
    telemetry::meter("outbox")
        .f64_gauge("turnpike_outbox_oldest_seconds")
        .with_description("Age of the oldest row that the bus doesn't have yet; 0 without one.")
        .build()
});

static PUBLISHED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    telemetry::meter("outbox")
        .u64_counter("turnpike_outbox_published")
        .with_description("Rows that the bus has recorded.")
        .build()
});

static RESENT: LazyLock<Counter<u64>> = LazyLock::new(|| {
    telemetry::meter("outbox")
        .u64_counter("turnpike_outbox_resent")
        .with_description("Rows to be published again because the bus has lost them.")
        .build()
});

pub(crate) struct Metrics {
    source: [KeyValue; 1],
}

impl Metrics {
    pub fn new(source: &str) -> Self {
        Self { source: [KeyValue::new("source", source.to_owned())] }
    }

    pub fn oldest(&self, age: time::Duration) {
        OLDEST.record(age.as_seconds_f64().max(0.0), &self.source);
    }

    pub fn published(&self, rows: usize) {
        PUBLISHED.add(rows as u64, &self.source);
    }

    pub fn resent(&self, rows: u64) {
        RESENT.add(rows, &self.source);
    }
}
