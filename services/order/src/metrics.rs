//! The names of this service's metrics, and what is recorded under them.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use crate::domain::Order;

struct Instruments {
    /// Orders placed.
    placed: Counter<u64>,
    /// How long orders were pending: status (`confirmed`, `rejected`).
    pending_seconds: Histogram<f64>,
    /// Answers of other services that only a mistake of ours, or theirs, explains: callee.
    callee_faults: Counter<u64>,
    /// What the sweep did: action (`reject`, `release`, `command`).
    swept: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = telemetry::meter("order");
    Instruments {
        placed: meter.u64_counter("turnpike_orders_placed").build(),
        pending_seconds: meter
            .f64_histogram("turnpike_order_pending_seconds")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        callee_faults: meter.u64_counter("turnpike_order_callee_faults").build(),
        swept: meter.u64_counter("turnpike_orders_swept").build(),
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
