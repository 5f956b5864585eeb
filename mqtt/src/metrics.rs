//! The metrics of the dispatcher, each name written once.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge},
};

struct Metrics {
    received: Counter<u64>,
    sent: Counter<u64>,
    connected: Gauge<u64>,
    leading: Gauge<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("mqtt");
    let counter = |name, help| meter.u64_counter(name).with_description(help).build();
    let gauge = |name, help| meter.u64_gauge(name).with_description(help).build();
    Metrics {
        received: counter(
            "turnpike_mqtt_received",
            "Messages that came, by what became of them (recorded, duplicate, rejected; own: events that this dispatcher itself had given to the broker; dropped: of QoS 0, too many at once, or rejected and refused even so).",
        ),
        sent: counter(
            "turnpike_mqtt_sent",
            "Events given to the MQTT broker, by mapping and result (sent, failed, own; waiting: there was no connection, it comes again).",
        ),
        connected: gauge("turnpike_mqtt_connected", "1: connected to the MQTT broker, by direction (in, out)."),
        leading: gauge("turnpike_mqtt_leading", "1: this dispatcher is the one that takes messages in order."),
    }
});

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Recorded,
    Duplicate,
    Rejected,
    Dropped,
    Own,
}

impl Taken {
    fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::Own => "own",
        }
    }
}

pub(crate) fn taken(taken: Taken) {
    METRICS.received.add(1, &[KeyValue::new("result", taken.as_str())]);
}

pub(crate) fn sent(group: &str, result: &'static str) {
    METRICS.sent.add(1, &[KeyValue::new("group", group.to_owned()), KeyValue::new("result", result)]);
}

pub(crate) fn connected(direction: &'static str, is: bool) {
    METRICS.connected.record(u64::from(is), &[KeyValue::new("direction", direction)]);
}

pub(crate) fn leading(is: bool) {
    METRICS.leading.record(u64::from(is), &[]);
}
