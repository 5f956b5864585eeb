//! The bus's metrics, each name written once.

use std::sync::LazyLock;

use events::Name;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

use crate::GroupStatus;

struct Metrics {
    publish: Counter<u64>,
    publish_seconds: Histogram<f64>,
    duplicate: Counter<u64>,
    delivery: Counter<u64>,
    lease_expired: Counter<u64>,
    lag: Gauge<u64>,
    in_flight: Gauge<u64>,
    retrying: Gauge<u64>,
    parked: Gauge<u64>,
    dead_letters: Gauge<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("bus");
    let gauge = |name| meter.u64_gauge(name).build();
    Metrics {
        publish: meter.u64_counter("turnpike_bus_publish").build(),
        publish_seconds: meter
            .f64_histogram("turnpike_bus_publish_seconds")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        duplicate: meter.u64_counter("turnpike_bus_duplicate").build(),
        delivery: meter.u64_counter("turnpike_bus_delivery").build(),
        lease_expired: meter.u64_counter("turnpike_bus_lease_expired").build(),
        lag: gauge("turnpike_bus_group_lag"),
        in_flight: gauge("turnpike_bus_group_in_flight"),
        retrying: gauge("turnpike_bus_group_retrying"),
        parked: gauge("turnpike_bus_group_parked"),
        dead_letters: gauge("turnpike_bus_dead_letters"),
    }
});

/// Events of a publish: `recorded`, `duplicate`, `refused`.
pub(crate) fn published(queue: &Name, result: &'static str, events: u64) {
    if events == 0 {
        return;
    }
    let labels = [KeyValue::new("queue", queue.as_str().to_owned()), KeyValue::new("result", result)];
    METRICS.publish.add(events, &labels);
    if result == "duplicate" {
        METRICS.duplicate.add(events, &labels[..1]);
    }
}

pub(crate) fn publish_took(time: std::time::Duration) {
    METRICS.publish_seconds.record(time.as_secs_f64(), &[]);
}

/// A group's label, made once.
#[derive(Debug)]
pub(crate) struct GroupLabels([KeyValue; 1]);

impl GroupLabels {
    pub(crate) fn new(group: &str) -> Self {
        Self([KeyValue::new("group", group.to_owned())])
    }

    /// A delivery's outcome: `acked`, `retried`, `released`, `dead`, `stale`, `filtered`, `expired`, `lost`.
    pub(crate) fn outcome(&self, outcome: &'static str) {
        METRICS.delivery.add(1, &[self.0[0].clone(), KeyValue::new("outcome", outcome)]);
    }

    pub(crate) fn lease_expired(&self) {
        METRICS.lease_expired.add(1, &self.0);
    }

    pub(crate) fn gauges(&self, status: &GroupStatus) {
        METRICS.lag.record(status.lag, &self.0);
        METRICS.in_flight.record(status.in_flight, &self.0);
        METRICS.retrying.record(status.retrying, &self.0);
        METRICS.parked.record(status.parked, &self.0);
        METRICS.dead_letters.record(status.dead, &self.0);
    }
}
