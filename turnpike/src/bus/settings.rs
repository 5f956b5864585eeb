//! `turnpike bus queues set`: what is said of a queue.

use std::time::Duration;

use bus::{Overflow, Queue};
use serde_json::{Value, json};

use super::args::{self, Set};

/// The queue with what is said instead of what it had.
pub fn changed(known: Queue, set: &Set) -> Queue {
    Queue {
        partitions: set.partitions.unwrap_or(known.partitions),
        max_age: set.max_age.unwrap_or(known.max_age),
        max_bytes: set.max_bytes.map_or(known.max_bytes, |limit| limit.0),
        max_len: set.max_len.map_or(known.max_len, |limit| limit.0),
        overflow: set.overflow.map_or(known.overflow, overflow),
        dedupe: set.dedupe.unwrap_or(known.dedupe),
        latest: set.latest.unwrap_or(known.latest),
        realtime: set.realtime.unwrap_or(known.realtime),
        journal: set.journal.unwrap_or(known.journal),
        name: known.name,
    }
}

/// What is said, as the gateway takes it.
pub fn settings(set: &Set) -> Value {
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    let given = [
        ("partitions", set.partitions.map(|count| json!(count))),
        ("max_age", set.max_age.map(|time| json!(millis(time)))),
        ("max_bytes", set.max_bytes.map(|limit| json!(limit.0))),
        ("max_len", set.max_len.map(|limit| json!(limit.0))),
        ("overflow", set.overflow.map(|what| json!(overflow(what)))),
        ("dedupe", set.dedupe.map(|time| json!(millis(time)))),
        ("latest", set.latest.map(|is| json!(is))),
        ("realtime", set.realtime.map(|is| json!(is))),
        ("journal", set.journal.map(|is| json!(is))),
    ];
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn overflow(what: args::Overflow) -> Overflow {
    match what {
        args::Overflow::Reject => Overflow::Reject,
        args::Overflow::DropOldest => Overflow::DropOldest,
    }
}
