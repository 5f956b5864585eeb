//! Every metric of the dashboard, by name; and those of a gateway that it reads.

use std::sync::LazyLock;

use events::Name;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, UpDownCounter},
};

use crate::tally::Reason;

/// Of a gateway: requests by `status_class`.
pub(crate) const GATEWAY_REQUESTS: &str = "turnpike_gateway_requests_total";
/// Of a gateway: a histogram's buckets, by `le`.
pub(crate) const GATEWAY_SECONDS: &str = "turnpike_gateway_request_seconds_bucket";
pub(crate) const GATEWAY_IN_FLIGHT: &str = "turnpike_gateway_in_flight";
pub(crate) const GATEWAY_CONNECTIONS: &str = "turnpike_gateway_connections";

struct Metrics {
    counted: Counter<u64>,
    missing: Counter<u64>,
    streams: UpDownCounter<i64>,
    streams_refused: Counter<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("dashboard");
    Metrics {
        counted: meter.u64_counter("turnpike_dashboard_events").with_description("Events counted").build(),
        missing: meter
            .u64_counter("turnpike_dashboard_gaps")
            .with_description("Gaps in what was read, by reason")
            .build(),
        streams: meter.i64_up_down_counter("turnpike_dashboard_streams").with_description("Pages that are fed").build(),
        streams_refused: meter
            .u64_counter("turnpike_dashboard_streams_refused")
            .with_description("Pages turned away because too many were fed")
            .build(),
    }
});

pub(crate) fn counted(queue: &Name) {
    METRICS.counted.add(1, &[KeyValue::new("queue", queue.as_str().to_owned())]);
}

pub(crate) fn missing(queue: &Name, reason: Reason) {
    let reason = match reason {
        Reason::Before => "before",
        Reason::Retention => "retention",
        Reason::Lineage => "lineage",
        Reason::Reset => "reset",
        Reason::Unreadable => "unreadable",
    };
    METRICS.missing.add(1, &[KeyValue::new("queue", queue.as_str().to_owned()), KeyValue::new("reason", reason)]);
}

pub(crate) fn stream_opened() {
    METRICS.streams.add(1, &[]);
}

pub(crate) fn stream_closed() {
    METRICS.streams.add(-1, &[]);
}

pub(crate) fn stream_refused() {
    METRICS.streams_refused.add(1, &[]);
}
