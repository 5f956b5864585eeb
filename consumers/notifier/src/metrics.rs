//! The notifier's metrics, each name written once.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

use crate::rules::Channel;

struct Metrics {
    messages: Counter<u64>,
    send_seconds: Histogram<f64>,
    held: Gauge<u64>,
    oldest_unsent: Gauge<f64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("notifier");
    Metrics {
        messages: meter
            .u64_counter("turnpike_notifier_messages")
            .with_description(
                "Attempts to send a message, by result (sent, refused, retry), and messages held for a digest.",
            )
            .build(),
        send_seconds: meter
            .f64_histogram("turnpike_notifier_send_seconds")
            .with_description("Seconds an attempt to send a message took.")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        held: meter
            .u64_gauge("turnpike_notifier_held")
            .with_description("Messages that wait for their digest.")
            .build(),
        oldest_unsent: meter
            .f64_gauge("turnpike_notifier_oldest_unsent_seconds")
            .with_description("Age of the oldest message that is neither sent nor failed; 0: there is none.")
            .build(),
    }
});

pub(crate) fn sent(channel: Channel, result: &'static str, took: Duration) {
    let channel = KeyValue::new("channel", channel.as_str());
    METRICS.send_seconds.record(took.as_secs_f64(), std::slice::from_ref(&channel));
    METRICS.messages.add(1, &[channel, KeyValue::new("result", result)]);
}

pub(crate) fn held(channel: Channel) {
    let labels = [KeyValue::new("channel", channel.as_str()), KeyValue::new("result", "held")];
    METRICS.messages.add(1, &labels);
}

pub(crate) fn waiting(held: u64, oldest_unsent: Duration) {
    METRICS.held.record(held, &[]);
    METRICS.oldest_unsent.record(oldest_unsent.as_secs_f64(), &[]);
}
