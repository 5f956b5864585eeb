//! How a transition reads in the log.

use std::sync::LazyLock;

use events::Envelope;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{presence, rooms};
use crate::sys;

const SOURCE: &str = "/turnpike/presence";

/// How somebody went.
pub(crate) struct Departure<'a> {
    /// When the last connection ended.
    pub(crate) seen: &'a str,
    /// `bye`, or `lost`: the grace is over.
    pub(crate) reason: &'a str,
}

/// The stored form of both transitions of a queue, for a script to fill in: `@ID@`, `@TIME@`, `@USER@`, `@ROOM@`,
/// `@SINCE@`, `@SEEN@`, `@REASON@`.
pub(crate) struct Template {
    pub(crate) arrival: String,
    pub(crate) departure: String,
}

/// `ONLINE`, or `JOINED` in a room ('': none).
pub(crate) fn arrival(room: &str, user: &str, since: &str) -> Envelope {
    transition(room, user, since, None)
}

/// `OFFLINE`, or `LEFT`.
pub(crate) fn departure(room: &str, user: &str, since: &str, departure: &Departure<'_>) -> Envelope {
    transition(room, user, since, Some(departure))
}

fn transition(room: &str, user: &str, since: &str, departure: Option<&Departure<'_>>) -> Envelope {
    let (queue, event) = match (room.is_empty(), departure.is_none()) {
        (true, true) => (presence(), "ONLINE"),
        (true, false) => (presence(), "OFFLINE"),
        (false, true) => (rooms(), "JOINED"),
        (false, false) => (rooms(), "LEFT"),
    };
    let mut data = json!({ "user": user, "since": since });
    if !room.is_empty() {
        data["room"] = room.into();
    }
    if let Some(Departure { seen, reason }) = departure {
        data["last_seen"] = (*seen).into();
        data["reason"] = (*reason).into();
    }
    let mut envelope = Envelope::new(SOURCE, queue, sys::name(event)).data(data);
    envelope.subject = Some(if room.is_empty() { user } else { room }.to_owned());
    envelope.owner = Some(user.to_owned());
    envelope
}

impl Template {
    /// Of `PRESENCE`.
    pub(crate) fn presence() -> &'static Self {
        static OF_PRESENCE: LazyLock<Template> = LazyLock::new(|| Template::new(""));
        &OF_PRESENCE
    }

    /// Of `ROOMS`.
    pub(crate) fn rooms() -> &'static Self {
        static OF_ROOMS: LazyLock<Template> = LazyLock::new(|| Template::new("@ROOM@"));
        &OF_ROOMS
    }

    /// What the digest of an event is made of, before its id.
    pub(crate) fn source() -> &'static str {
        SOURCE
    }

    fn new(room: &str) -> Self {
        let departure = Departure { seen: "@SEEN@", reason: "@REASON@" };
        Self {
            arrival: stored(arrival(room, "@USER@", "@SINCE@")),
            departure: stored(self::departure(room, "@USER@", "@SINCE@", &departure)),
        }
    }
}

fn stored(envelope: Envelope) -> String {
    let mut envelope = envelope.id("@ID@");
    envelope.time = OffsetDateTime::UNIX_EPOCH;
    let epoch = envelope.time.format(&Rfc3339).unwrap_or_default();
    serde_json::to_string(&envelope).unwrap_or_default().replacen(&epoch, "@TIME@", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_is_filled_in_is_the_event() {
        for (template, room) in [(Template::presence(), ""), (Template::rooms(), "chat/lobby")] {
            let mut filled = template.departure.clone();
            for (name, value) in [
                ("@ID@", "1-2"),
                ("@TIME@", "2026-11-21T18:00:00Z"),
                ("@USER@", "customers/1"),
                ("@ROOM@", room),
                ("@SINCE@", "2026-11-21T17:00:00Z"),
                ("@SEEN@", "2026-11-21T17:59:45Z"),
                ("@REASON@", "lost"),
            ] {
                assert!(filled.contains(name) || (name == "@ROOM@" && room.is_empty()), "{name} in {filled}");
                filled = filled.replace(name, value);
            }
            let read: Envelope = serde_json::from_str(&filled).unwrap();
            let gone = Departure { seen: "2026-11-21T17:59:45Z", reason: "lost" };
            let mut expected = departure(room, "customers/1", "2026-11-21T17:00:00Z", &gone).id("1-2");
            expected.time = read.time;
            assert_eq!(read, expected);
            assert!(!filled.contains('@'), "{filled}");
            read.check().unwrap();
        }
    }
}
