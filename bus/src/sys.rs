//! The queue `SYS`, in which the bus tells of itself. An ordinary queue to read; only the bus writes it.
//!
//! - `DEAD_LETTER`: a group has new dead letters; at most every ten minutes, with how many (`count`) came since.
//! - `GROUP_ABANDONED`: nobody claimed for a group, and it lost its hold: from where to where.
//! - `LOG_RESET`: a partition's log began anew.
//! - `SCHEDULED_LOST`: events that waited for their time are gone: how many (`count`).
//! - `QUEUE_FULL`: a publish was refused because a partition is full; at most every ten minutes.
//! - `WEBHOOK_DISABLED`: nothing is sent to an endpoint any more: which, why, since when.
//! - `SUBSCRIBED`, `UNSUBSCRIBED`: somebody follows something, or not any more (`comings.rs`), where a process is asked to tell.
//! - `DEDUPE_CUT_SHORT`: more was published than the dedupe window holds; at most every ten minutes.

use std::time::Duration;

use events::{Envelope, Name};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{Overflow, Queue};

/// How long a publisher shall wait whose queue is full.
pub(crate) const FULL: Duration = Duration::from_secs(1);
/// How often the same is told, in milliseconds.
pub(crate) const RARELY: i64 = 600_000;
/// Events that are kept at most.
const LENGTH: u64 = 100_000;
const SOURCE: &str = "/turnpike/bus";

/// The queue as it comes into being.
pub(crate) fn queue() -> Queue {
    Queue { max_len: Some(LENGTH), overflow: Overflow::DropOldest, ..Queue::new(name("SYS")) }
}

/// An event of it: of a group, or else of a queue, a webhook, a connection or a node.
pub(crate) fn envelope(event: &Name, id: &str, at: OffsetDateTime, data: Value) -> Envelope {
    let of = |kind: &str, field: &str| data[field].as_str().map(|name| format!("{kind}/{name}"));
    let mut envelope = Envelope::new(SOURCE, name("SYS"), event.clone()).id(id);
    let kinds = [
        ("groups", "group"),
        ("queues", "queue"),
        ("webhooks", "webhook"),
        ("connections", "connection"),
        ("nodes", "node"),
    ];
    envelope.subject = kinds.into_iter().find_map(|(kind, field)| of(kind, field));
    envelope.time = at;
    envelope.data(data)
}

/// A name of ours.
pub(crate) fn name(text: &str) -> Name {
    #[expect(clippy::expect_used, reason = "the names of this file are names")]
    Name::new(text).expect("a name")
}
