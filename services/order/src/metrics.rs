//! The names of this service's metrics, and what is recorded under them.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use crate::domain::Order;

struct Instruments {
    placed: Counter<u64>,
    pending_seconds: Histogram<f64>,
    callee_faults: Counter<u64>,
    swept: Counter<u64>,
}

/// Upper bounds, in seconds: from what a customer waits for to what the sweep ends.
const PENDING_BUCKETS: [f64; 12] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = telemetry::meter("order");
    Instruments {
        placed: meter.u64_counter("turnpike_order_placed").with_description("Orders placed.").build(),
        pending_seconds: meter
            .f64_histogram("turnpike_order_pending_seconds")
            .with_description("Seconds an order was pending, by the status that ended it (confirmed, rejected).")
            .with_boundaries(PENDING_BUCKETS.to_vec())
            .build(),
        callee_faults: meter
            .u64_counter("turnpike_order_callee_faults")
            .with_description("Answers of other services that only a mistake of ours, or theirs, explains, by callee.")
            .build(),
        swept: meter
            .u64_counter("turnpike_order_swept")
            .with_description("What the sweep of pending orders did, by action (reject, release, command).")
            .build(),
    }
});

pub(crate) fn placed() {
    INSTRUMENTS.placed.add(1, &[]);
}

pub(crate) fn settled(order: &Order) {
    let seconds = (order.updated_at - order.created_at).as_seconds_f64();
    INSTRUMENTS.pending_seconds.record(seconds, &[KeyValue::new("status", order.status().as_str())]);
}

pub(crate) fn callee_fault(callee: &'static str) {
    INSTRUMENTS.callee_faults.add(1, &[KeyValue::new("callee", callee)]);
}

pub(crate) fn swept(action: &'static str) {
    INSTRUMENTS.swept.add(1, &[KeyValue::new("action", action)]);
}
