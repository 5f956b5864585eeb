//! Who is online, and who is in which room.
//!
//! A user attends the bus while it has a connection to it, and a room while one of its connections is in it. A connection
//! that says `bye` ends at once; one that is lost, with its node or without, counts for [`GRACE`] more. The first
//! connection of a user makes an `ONLINE` in the queue `PRESENCE` (`JOINED` in `ROOMS`), the last one an `OFFLINE`
//! (`LEFT`): once each, found and recorded in one step, so that who was away reads it later.
//!
//! [`Attendance`] is a process's own: it tells the bus who is connected here ([`Told`]), and tells it again and again. What
//! is found from that a backend keeps beside the partition that the user, or the room, is the key of. Nobody is here by
//! itself: who publishes and doesn't attend isn't present.

mod attendance;
mod log;
mod roll;
mod room;
mod rounds;
mod step;

use std::time::Duration;

use events::Name;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use attendance::{Attendance, Attending, NotJoined};
pub(crate) use log::{Departure, Template, arrival, departure};
pub use room::{NoRoom, Room};
pub(crate) use step::BOUNDS;
pub use step::{Attended, Crowded, Move, Scope, Step, Told};

use crate::{Logged, Overflow, Queue, sys};

/// How long a connection counts after it was cut, or after its node was heard of last.
pub const GRACE: Duration = Duration::from_secs(15);
/// How long a node may say nothing before its connections are taken for cut.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Within this a node tells every connection again.
pub const REFRESH: Duration = Duration::from_secs(10);
/// Connections of a user that count, of the bus and of each room; further ones are not in rooms.
pub const MOST_CONNECTIONS: usize = 64;
/// Users in a room.
pub const MOST_MEMBERS: usize = 10_000;
/// The longest name of a user who can be present, in bytes.
pub const LONGEST_USER: usize = 256;
/// How long a room is there that nobody is in, after its last event, if the queue keeps that so long.
pub const ROOM_LIFE: Duration = Duration::from_secs(86_400);

/// Transitions that are kept at most, a partition.
const LENGTH: u64 = 1_000_000;

/// Whether a user is online, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    pub user: String,
    pub online: bool,
    /// When its first connection came; of one who is online.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<OffsetDateTime>,
    /// When its last connection ended, of one that has none; None where nobody remembers.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<OffsetDateTime>,
    /// 0 of one that is online by a connection that was lost, for the time of grace.
    pub connections: usize,
}

/// A user who is in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    pub user: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// 0 of one that is there by a connection that was lost, for the time of grace.
    pub connections: usize,
}

/// Some of those who are in a room, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub members: Vec<Member>,
    /// How many there are in all.
    pub count: u64,
    /// Where the next page begins. Who is there all the while is on one page at least.
    pub next: Option<String>,
}

/// What is known of a user in a scope, as backends keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendee {
    pub since: OffsetDateTime,
    /// When its last connection ended, where none is left.
    pub seen: Option<OffsetDateTime>,
    pub connections: usize,
}

impl Presence {
    pub(crate) fn of(user: &str, attendee: &Attendee) -> Self {
        let Attendee { since, seen, connections } = *attendee;
        Self { user: user.to_owned(), online: true, since: Some(since), last_seen: seen, connections }
    }

    /// `last`: the user's last transition.
    pub(crate) fn away(user: &str, last: Option<&Logged>) -> Self {
        let seen = last.and_then(|last| last.envelope.json()?["last_seen"].as_str());
        let last_seen = seen.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        Self { user: user.to_owned(), online: false, since: None, last_seen, connections: 0 }
    }
}

/// The queue `PRESENCE`: a user's `ONLINE` and `OFFLINE`, by user.
pub fn presence() -> Name {
    sys::name("PRESENCE")
}

/// The queue `ROOMS`: what happens in a room, its `JOINED` and `LEFT` included, by room.
pub fn rooms() -> Name {
    sys::name("ROOMS")
}

/// Whether it is one of these two, beside which it is kept who is there.
pub fn is_attended(queue: &Name) -> bool {
    matches!(queue.as_str(), "PRESENCE" | "ROOMS")
}

/// What the bus records itself in `ROOMS`: nobody else may.
pub fn is_transition(event: &Name) -> bool {
    matches!(event.as_str(), "JOINED" | "LEFT")
}

/// These queues as they come into being; None: it is none of them.
pub(crate) fn queue(name: &Name) -> Option<Queue> {
    match name.as_str() {
        // What is recorded once needs no window; and each user's last transition says when it was seen.
        "PRESENCE" => Some(Queue {
            max_len: Some(LENGTH),
            overflow: Overflow::DropOldest,
            dedupe: Duration::ZERO,
            latest: true,
            ..Queue::new(name.clone())
        }),
        "ROOMS" => Some(Queue { latest: true, ..Queue::new(name.clone()) }),
        _ => None,
    }
}
