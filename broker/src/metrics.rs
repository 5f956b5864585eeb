//! The broker's metrics, each name written once.

use std::sync::{
    LazyLock,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, ObservableCounter, UpDownCounter},
};

struct Metrics {
    connections: UpDownCounter<i64>,
    _delivered: ObservableCounter<u64>,
    gap: Counter<u64>,
    close: Counter<u64>,
    place: Counter<u64>,
    calls: Counter<u64>,
    lagging: UpDownCounter<i64>,
    send_queue_bytes: UpDownCounter<i64>,
    shed_level: Gauge<u64>,
    shed: Counter<u64>,
    bridged: Counter<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("broker");
    let counter = |name, help| meter.u64_counter(name).with_description(help).build();
    let level = |name, help| meter.i64_up_down_counter(name).with_description(help).build();
    Metrics {
        connections: level("turnpike_broker_connections", "Clients that follow now."),
        _delivered: meter
            .u64_observable_counter("turnpike_broker_delivered")
            .with_description("Events given to clients.")
            .with_callback(|delivered| {
                for transport in Transport::ALL {
                    let events = DELIVERED[transport as usize].load(Relaxed);
                    if events > 0 {
                        delivered.observe(events, &transport.label());
                    }
                }
            })
            .build(),
        gap: counter("turnpike_broker_gap", "Gaps that clients were told of."),
        close: counter("turnpike_broker_close", "WebSockets that the broker closed, by code."),
        place: counter(
            "turnpike_broker_place",
            "Places of durable subscriptions that were to be written, by what became of it.",
        ),
        calls: counter(
            "turnpike_broker_calls",
            "Calls of gRPC, by what they were answered, or by how their stream began.",
        ),
        lagging: level("turnpike_broker_lagging", "Readers that fell behind what is kept in memory."),
        send_queue_bytes: level("turnpike_broker_send_queue_bytes", "Bytes that wait for WebSockets to take them."),
        shed_level: meter
            .u64_gauge("turnpike_broker_shed_level")
            .with_description("What is done about too much: 0 nothing, to 3, which sends clients away.")
            .build(),
        shed: counter("turnpike_broker_shed", "What was refused or sent away because of too much, by the signal."),
        bridged: counter("turnpike_broker_bridged", "Messages of Redis channels, by what became of them."),
    }
});

/// The same as the gauges tell, for whoever asks here.
static LAGGING: AtomicI64 = AtomicI64::new(0);
static BYTES_OUT: AtomicI64 = AtomicI64::new(0);
/// A transport. One event is told ten thousand times: each time is an addition, and no more.
static DELIVERED: [AtomicU64; Transport::ALL.len()] = [const { AtomicU64::new(0) }; Transport::ALL.len()];

/// How a client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Sse,
    LongPoll,
    Grpc,
}

impl Transport {
    const ALL: [Self; 4] = [Self::WebSocket, Self::Sse, Self::LongPoll, Self::Grpc];

    fn label(self) -> [KeyValue; 1] {
        let transport = match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::LongPoll => "long_poll",
            Self::Grpc => "grpc",
        };
        [KeyValue::new("transport", transport)]
    }

    pub(crate) fn delivered(self, events: usize) {
        LazyLock::force(&METRICS);
        DELIVERED[self as usize].fetch_add(events as u64, Relaxed);
    }
}

/// A client that follows, while it is held.
pub(crate) struct Following(Transport);

impl Following {
    pub(crate) fn begin(transport: Transport) -> Self {
        METRICS.connections.add(1, &transport.label());
        Self(transport)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        METRICS.connections.add(-1, &self.0.label());
    }
}

/// A reader that fell behind, while it is held.
pub(crate) struct Lagging(());

impl Lagging {
    pub(crate) fn begin() -> Self {
        METRICS.lagging.add(1, &[]);
        LAGGING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Lagging {
    fn drop(&mut self) {
        METRICS.lagging.add(-1, &[]);
        LAGGING.fetch_sub(1, Relaxed);
    }
}

/// What waits for one socket.
#[derive(Default)]
pub(crate) struct SendQueue(i64);

impl SendQueue {
    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes != self.0 {
            METRICS.send_queue_bytes.add(bytes - self.0, &[]);
            BYTES_OUT.fetch_add(bytes - self.0, Relaxed);
            self.0 = bytes;
        }
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Readers of this process that fell behind.
pub(crate) fn lagging() -> u64 {
    LAGGING.load(Relaxed).max(0).unsigned_abs()
}

/// Bytes of this process that wait for sockets.
pub(crate) fn bytes_out() -> u64 {
    BYTES_OUT.load(Relaxed).max(0).unsigned_abs()
}

pub(crate) fn shed_level(level: u8) {
    METRICS.shed_level.record(level.into(), &[]);
}

/// `connection`, `publish`, `goaway`, by the signal that is the worst.
pub(crate) fn shed(action: &'static str, reason: &'static str, count: usize) {
    METRICS.shed.add(count as u64, &[KeyValue::new("action", action), KeyValue::new("reason", reason)]);
}

/// Messages of channels were `published`, `dropped` since too many waited, `refused` by the bus, or `invalid`.
pub(crate) fn bridged(queue: &str, result: &'static str, count: u64) {
    METRICS.bridged.add(count, &[KeyValue::new("queue", queue.to_owned()), KeyValue::new("result", result)]);
}

pub(crate) fn gap(reason: &'static str) {
    METRICS.gap.add(1, &[KeyValue::new("reason", reason)]);
}

pub(crate) fn closed(code: u16) {
    METRICS.close.add(1, &[KeyValue::new("code", i64::from(code))]);
}

/// So many places of durable subscriptions were to be written: `moved`, `taken`, `removed`, `failed`.
pub(crate) fn place(outcome: &'static str, count: usize) {
    METRICS.place.add(count as u64, &[KeyValue::new("outcome", outcome)]);
}

/// A call of gRPC was answered so. The method is one of ours, or "unknown".
pub(crate) fn called(method: &'static str, code: &'static str) {
    METRICS.calls.add(1, &[KeyValue::new("method", method), KeyValue::new("code", code)]);
}
