//! The bus's metrics, each name written once. A group's gauges are told by whoever has the whole picture: on SQLite the
//! writer, on a shared bus every process that calls [`crate::Bus::report`], so there the highest of a group's values counts.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use events::Name;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Gauge, Histogram},
};
use parking_lot::RwLock;
use time::OffsetDateTime;

use crate::{Confirm, Error, GapReason, GroupStatus, Outcome, PartitionStatus, QueueStatus, Refused, redis::Level};

/// Upper bounds, in seconds, of how long an event waits: from a moment to a day behind.
const AGE_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 86_400.0];

struct Metrics {
    publish: Counter<u64>,
    publish_seconds: BoundHistogram<f64>,
    duplicate: Counter<u64>,
    receipt: Counter<u64>,
    delivery: Counter<u64>,
    handling_seconds: Histogram<f64>,
    age_seconds: Histogram<f64>,
    lease_expired: Counter<u64>,
    gap: Counter<u64>,
    lineage_changes: Counter<u64>,
    redis_round_trip_seconds: BoundHistogram<f64>,
    redis_guard: Gauge<u64>,
    redis_clock_skew_seconds: Gauge<f64>,
    lag: Gauge<u64>,
    oldest: Gauge<f64>,
    in_flight: Gauge<u64>,
    retrying: Gauge<u64>,
    parked: Gauge<u64>,
    blocked: Gauge<u64>,
    dead_letters: Gauge<u64>,
    dead_letter_oldest: Gauge<f64>,
    queue_events: Gauge<u64>,
    queue_bytes: Gauge<u64>,
    present_users: Gauge<u64>,
    rooms: Gauge<u64>,
    presence_transitions: Counter<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = telemetry::meter("bus");
    let counter = |name, help| meter.u64_counter(name).with_description(help).build();
    let gauge = |name, help| meter.u64_gauge(name).with_description(help).build();
    let seconds = |name, help| meter.f64_gauge(name).with_description(help).build();
    let histogram = |name, help, bounds: &[f64]| {
        meter.f64_histogram(name).with_description(help).with_boundaries(bounds.to_vec()).build()
    };
    Metrics {
        publish: counter("turnpike_bus_publish", "Events published, by result."),
        publish_seconds: histogram(
            "turnpike_bus_publish_seconds",
            "Seconds a publish took, of one event or a batch.",
            &telemetry::LATENCY_BUCKETS,
        )
        .bind(&[]),
        duplicate: counter("turnpike_bus_duplicate", "Events published again that the bus had already."),
        receipt: counter("turnpike_bus_receipt", "Receipts given, by what they say became of their event."),
        delivery: counter("turnpike_bus_delivery", "Deliveries by what became of them."),
        handling_seconds: histogram(
            "turnpike_bus_handling_seconds",
            "Seconds a consumer took to handle a delivery.",
            &telemetry::LATENCY_BUCKETS,
        ),
        age_seconds: histogram(
            "turnpike_bus_queue_age_seconds",
            "Seconds between the recording of an event and the start of its handling.",
            &AGE_BUCKETS,
        ),
        lease_expired: counter("turnpike_bus_lease_expired", "Leases that ended before their delivery was settled."),
        gap: counter("turnpike_bus_gap", "Gaps that readers were told of, by reason."),
        lineage_changes: counter(
            "turnpike_bus_lineage_changes",
            "Beginnings of a new lineage: the log was opened again, restored or reset.",
        ),
        redis_round_trip_seconds: histogram(
            "turnpike_redis_round_trip_seconds",
            "Seconds between a request to Redis and its answer.",
            &telemetry::LATENCY_BUCKETS,
        )
        .bind(&[]),
        redis_guard: gauge(
            "turnpike_redis_guard",
            "How something about Redis is that the bus needs: 0 as it should be, 1 a warning, 2 a fault.",
        ),
        redis_clock_skew_seconds: seconds(
            "turnpike_redis_clock_skew_seconds",
            "How far the clock of Redis is ahead of this machine's; the furthest of several.",
        ),
        lag: gauge("turnpike_bus_group_lag", "Events that a group has not settled."),
        oldest: seconds(
            "turnpike_bus_group_oldest_pending_seconds",
            "Age of the oldest event a group has not settled.",
        ),
        in_flight: gauge("turnpike_bus_group_in_flight", "Events leased to a group's members and not settled."),
        retrying: gauge("turnpike_bus_group_retrying", "Events of a group that wait for another attempt."),
        parked: gauge("turnpike_bus_group_parked", "Events of a group that wait for their key's turn."),
        blocked: gauge(
            "turnpike_bus_group_blocked",
            "1 where so much of a group is unsettled that nothing more is claimed, else 0.",
        ),
        dead_letters: gauge("turnpike_bus_dead_letters", "Dead letters of a group."),
        dead_letter_oldest: seconds("turnpike_bus_dead_letter_oldest_seconds", "Age of a group's oldest dead letter."),
        queue_events: gauge("turnpike_bus_queue_events", "Events that a queue keeps."),
        queue_bytes: gauge("turnpike_bus_queue_bytes", "Bytes of the events that a queue keeps, as they are stored."),
        present_users: gauge("turnpike_bus_present_users", "Users who are online, at whatever node."),
        rooms: gauge("turnpike_bus_rooms", "Rooms with somebody in them, at whatever node."),
        presence_transitions: counter(
            "turnpike_bus_presence_transitions",
            "Transitions of presence that were found: of users and the bus, of users and rooms.",
        ),
    }
});

/// The counters of publishes by queue, level and result: their labels are made once, for each publish counts.
type Published = HashMap<(Name, Confirm, &'static str), BoundCounter<u64>>;

/// Those that are kept; of more queues each publish makes its own.
const LABELS: usize = 4096;

static PUBLISHED: LazyLock<RwLock<Published>> = LazyLock::new(RwLock::default);

/// What became of the events of a publish, by their queues in the order of the events: `recorded`, `duplicate`,
/// `scheduled`, `full`, `refused`, or all `failed`; with the level that was reached, else the one asked for.
pub(crate) fn published(queues: &[Name], asked: Confirm, published: &Result<Vec<Outcome>, Error>) {
    let mut runs: Vec<((&Name, Confirm, &'static str), u64)> = Vec::new();
    for (at, queue) in queues.iter().enumerate() {
        let (confirm, result) = match published.as_ref().map(|outcomes| outcomes.get(at)) {
            Ok(Some(Ok(recorded))) if recorded.duplicate => (recorded.confirmed, "duplicate"),
            Ok(Some(Ok(recorded))) if recorded.due.is_some() => (recorded.confirmed, "scheduled"),
            Ok(Some(Ok(recorded))) => (recorded.confirmed, "recorded"),
            Ok(Some(Err(Refused::Full { .. }))) => (asked, "full"),
            Ok(Some(Err(_))) => (asked, "refused"),
            Ok(None) | Err(_) => (asked, "failed"),
        };
        match runs.last_mut() {
            Some((run, events)) if *run == (queue, confirm, result) => *events += 1,
            _ => runs.push(((queue, confirm, result), 1)),
        }
    }
    for ((queue, confirm, result), events) in runs {
        count(queue, confirm, result, events);
        if result == "duplicate" {
            METRICS.duplicate.add(events, &[KeyValue::new("queue", queue.as_str().to_owned())]);
        }
    }
}

/// Events whose time has come, and which are recorded now.
pub(crate) fn due(queue: &Name, events: u64) {
    if events > 0 {
        count(queue, Confirm::Stored, "due", events);
    }
}

/// Events that waited for their time, and which somebody deleted.
pub(crate) fn waited_in_vain(queue: &Name, events: u64) {
    if events > 0 {
        count(queue, Confirm::Stored, "lost", events);
    }
}

fn count(queue: &Name, confirm: Confirm, result: &'static str, events: u64) {
    let key = (queue.clone(), confirm, result);
    if let Some(counter) = PUBLISHED.read().get(&key) {
        return counter.add(events);
    }
    let counter = METRICS.publish.bind(&[
        KeyValue::new("queue", queue.as_str().to_owned()),
        KeyValue::new("confirm", confirm.to_string()),
        KeyValue::new("result", result),
    ]);
    counter.add(events);
    let mut known = PUBLISHED.write();
    if known.len() < LABELS {
        known.insert(key, counter);
    }
}

/// A receipt was given: `COMPLETED`, `FAILED`, `EXPIRED`.
pub(crate) fn receipt(outcome: &Name) {
    METRICS.receipt.add(1, &[KeyValue::new("outcome", outcome.as_str().to_ascii_lowercase())]);
}

pub(crate) fn publish_took(time: Duration) {
    METRICS.publish_seconds.record(time.as_secs_f64());
}

/// A reader was told of a gap.
pub(crate) fn gap(reason: GapReason) {
    let reason = match reason {
        GapReason::Retention => "retention",
        GapReason::Lineage => "lineage",
        GapReason::Reset => "reset",
        GapReason::Unreadable => "unreadable",
    };
    METRICS.gap.add(1, &[KeyValue::new("reason", reason)]);
}

/// A partition of the queue has begun a new lineage.
pub(crate) fn lineage_changed(queue: &Name) {
    METRICS.lineage_changes.add(1, &[KeyValue::new("queue", queue.as_str().to_owned())]);
}

/// What a queue keeps now.
pub(crate) fn queue(status: &QueueStatus) {
    let labels = [KeyValue::new("queue", status.settings.name.as_str().to_owned())];
    let sum = |of: fn(&PartitionStatus) -> u64| status.partitions.iter().map(of).sum();
    METRICS.queue_events.record(sum(|partition| partition.next.saturating_sub(partition.floor)), &labels);
    METRICS.queue_bytes.record(sum(|partition| partition.bytes), &labels);
}

/// Who is there now, on the bus as a whole.
pub(crate) fn present(users: u64, rooms: u64) {
    METRICS.present_users.record(users, &[]);
    METRICS.rooms.record(rooms, &[]);
}

/// So many users were found to have come to the bus, or into a room, and so many to have gone.
pub(crate) fn transitions(queue: &Name, arrived: u64, departed: u64) {
    let names = if queue.as_str() == "PRESENCE" { ["online", "offline"] } else { ["joined", "left"] };
    for (event, count) in names.into_iter().zip([arrived, departed]) {
        if count > 0 {
            METRICS.presence_transitions.add(count, &[KeyValue::new("event", event)]);
        }
    }
}

/// A script or a read that doesn't wait has come back from Redis.
pub(crate) fn redis_round_trip(time: Duration) {
    METRICS.redis_round_trip_seconds.record(time.as_secs_f64());
}

/// How something about Redis is that the bus needs, on the worst of several servers.
pub(crate) fn redis_guard(guard: &'static str, level: Level) {
    METRICS.redis_guard.record(level as u64, &[KeyValue::new("guard", guard)]);
}

/// How many milliseconds the clock of Redis is ahead.
pub(crate) fn redis_clock_skew(millis: i64) {
    #[expect(clippy::cast_precision_loss, reason = "nobody needs the milliseconds of a skew of centuries")]
    METRICS.redis_clock_skew_seconds.record(millis as f64 / 1000.0, &[]);
}

/// What a member's handlers are timed by.
pub(crate) struct Handling {
    age: BoundHistogram<f64>,
    seconds: BoundHistogram<f64>,
}

impl Handling {
    pub(crate) fn new(group: &str) -> Self {
        let group = [KeyValue::new("group", group.to_owned())];
        Self { age: METRICS.age_seconds.bind(&group), seconds: METRICS.handling_seconds.bind(&group) }
    }

    pub(crate) fn waited(&self, seconds: f64) {
        self.age.record(seconds);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.seconds.record(time.as_secs_f64());
    }
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

    /// So many events were dropped before the group had settled them.
    pub(crate) fn lost(&self, events: u64) {
        if events > 0 {
            METRICS.delivery.add(events, &[self.0[0].clone(), KeyValue::new("outcome", "lost")]);
        }
    }

    pub(crate) fn lease_expired(&self) {
        METRICS.lease_expired.add(1, &self.0);
    }

    /// What is true of the group now; `dead_since`: when its oldest dead letter died.
    pub(crate) fn gauges(&self, status: &GroupStatus, dead_since: Option<OffsetDateTime>) {
        let now = OffsetDateTime::now_utc();
        let age = |since: Option<OffsetDateTime>| since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0));
        METRICS.lag.record(status.lag, &self.0);
        METRICS.oldest.record(age(status.oldest), &self.0);
        METRICS.in_flight.record(status.in_flight, &self.0);
        METRICS.retrying.record(status.retrying, &self.0);
        METRICS.parked.record(status.parked, &self.0);
        METRICS.blocked.record(u64::from(status.blocked_by_key), &self.0);
        METRICS.dead_letters.record(status.dead, &self.0);
        METRICS.dead_letter_oldest.record(age(dead_since), &self.0);
    }
}
