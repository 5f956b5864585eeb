//! Which message is one that was here before.
//!
//! A message of QoS 1 comes again, marked so (DUP), until it is acknowledged: under its packet identifier, as long as the
//! session lives (MQTT 5, section 4.4). So an event's id says under which identifier its message came, and what it was: who
//! is sent it again knows the id that it has, be it another process, from the end of the log.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use events::Envelope;
use rumqttc::{Publish, QoS};
use uuid::Uuid;

use crate::{link::IN_FLIGHT, settings::Same};

/// What equal messages have their id from.
const EQUAL: Uuid = Uuid::from_u128(0x2f7c_5a10_8d3e_4b6f_9a51_c07e_64d2_b813);
/// The user property that names an event.
const EVENT_ID: &str = "event-id";

/// What was taken under each packet identifier of a session, last.
pub(crate) struct Known {
    /// The client's, in an id.
    client: String,
    taken: HashMap<u16, Taken>,
    /// How many there were.
    count: u64,
}

struct Taken {
    /// The how manieth.
    at: u64,
    content: String,
    id: String,
}

/// Further back nothing comes again: the broker sends no more than so many before it has heard of the first. An identifier that
/// is used anew may then mean an equal message.
const REACH: u64 = 2 * IN_FLIGHT as u64;

impl Known {
    pub(crate) fn new(client_id: &str) -> Self {
        Self { client: hex(client_id.as_bytes(), 4), taken: HashMap::new(), count: 0 }
    }

    /// The broker knows nothing of the session: identifiers begin anew.
    pub(crate) fn forget(&mut self) {
        self.taken.clear();
    }

    /// Takes in an event that was recorded before, if it came by this client. Later ones go over earlier ones, in whatever
    /// order they are taken in.
    pub(crate) fn recall(&mut self, event: &Envelope) {
        let mut parts = event.id.splitn(4, '-');
        if parts.next() != Some(self.client.as_str()) {
            return;
        }
        if let (Some(packet), Some(content)) = (parts.next(), parts.next())
            && let Ok(packet) = u16::from_str_radix(packet, 16)
        {
            let taken = Taken { at: self.count, content: content.to_owned(), id: event.id.clone() };
            // The queues are read one after the other: what came later is told by the end of its id, which begins with the time.
            let time = |id: &str| id.rsplit('-').next().map(str::to_owned);
            if self.taken.get(&packet).is_none_or(|before| time(&before.id) <= time(&taken.id)) {
                self.taken.insert(packet, taken);
            }
        }
    }

    /// The id of a message's event.
    pub(crate) fn id(&mut self, message: &Publish, same: Same) -> String {
        if let Some(given) = property(message, EVENT_ID) {
            return given.to_owned();
        }
        if same == Same::Equal {
            return Uuid::new_v5(&EQUAL, content(message).as_bytes()).to_string();
        }
        self.mark(message)
    }

    /// An id that says under which packet identifier a message came: the same one where it comes again.
    pub(crate) fn mark(&mut self, message: &Publish) -> String {
        if message.qos == QoS::AtMostOnce {
            return Uuid::now_v7().to_string();
        }
        let content = content(message);
        if message.dup
            && let Some(taken) = self.taken.get(&message.pkid)
            && taken.content == content
            && self.count - taken.at <= REACH
        {
            return taken.id.clone();
        }
        let id = format!("{}-{:04x}-{content}-{}", self.client, message.pkid, Uuid::now_v7().simple());
        self.count += 1;
        self.taken.insert(message.pkid, Taken { at: self.count, content, id: id.clone() });
        id
    }
}

/// A user property's value.
pub(crate) fn property<'a>(message: &'a Publish, name: &str) -> Option<&'a str> {
    let properties = &message.properties.as_ref()?.user_properties;
    properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What a message is, told from others by topic and payload.
fn content(message: &Publish) -> String {
    hex(&[&message.topic[..], &message.payload[..]].join(&0), 12)
}

fn hex(bytes: &[u8], length: usize) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use events::Name;

    use super::*;

    fn message(packet: u16, payload: &str, dup: bool) -> Publish {
        let mut message = Publish::new("a/b", QoS::AtLeastOnce, payload.to_owned(), None);
        (message.pkid, message.dup) = (packet, dup);
        message
    }

    fn event(id: &str) -> Envelope {
        Envelope::new("/mqtt/t", Name::new("Q").unwrap(), Name::new("E").unwrap()).id(id)
    }

    #[test]
    fn what_is_sent_again_has_its_id_also_for_the_next_process() {
        let mut known = Known::new("turnpike");
        let first = known.id(&message(7, "x", false), Same::Redelivered);
        assert!(event(&first).check().is_ok(), "{first}");
        assert_eq!(known.id(&message(7, "x", true), Same::Redelivered), first);
        let mut next = Known::new("turnpike");
        next.recall(&event(&first));
        assert_eq!(next.id(&message(7, "x", true), Same::Redelivered), first);
        assert_ne!(next.id(&message(7, "y", true), Same::Redelivered), first, "it is another message");
        let mut other = Known::new("another");
        other.recall(&event(&first));
        assert_ne!(other.id(&message(7, "x", true), Same::Redelivered), first);
    }

    #[test]
    fn what_came_last_is_known_in_whatever_order_the_queues_are_read() {
        let mut known = Known::new("turnpike");
        let [before, last] = ["x", "y"].map(|payload| known.id(&message(7, payload, false), Same::Redelivered));
        for order in [[&before, &last], [&last, &before]] {
            let mut next = Known::new("turnpike");
            order.into_iter().for_each(|id| next.recall(&event(id)));
            assert_eq!(next.id(&message(7, "y", true), Same::Redelivered), last);
        }
    }

    #[test]
    fn equal_messages_are_two_unless_said_otherwise() {
        let mut known = Known::new("turnpike");
        let first = known.id(&message(7, "x", false), Same::Redelivered);
        assert_ne!(known.id(&message(8, "x", false), Same::Redelivered), first);
        assert_ne!(known.id(&message(7, "x", false), Same::Redelivered), first, "the identifier was given again");
        let equal = known.id(&message(9, "x", false), Same::Equal);
        assert_eq!(known.id(&message(10, "x", false), Same::Equal), equal);
        assert_ne!(known.id(&message(10, "y", false), Same::Equal), equal);
    }

    #[test]
    fn an_identifier_that_was_used_long_ago_means_another_message() {
        let mut known = Known::new("turnpike");
        let first = known.id(&message(7, "on", false), Same::Redelivered);
        for packet in 1_000..1_000 + u16::try_from(REACH).unwrap() + 1 {
            known.id(&message(packet, "on", false), Same::Redelivered);
        }
        assert_ne!(known.id(&message(7, "on", true), Same::Redelivered), first);
    }

    #[test]
    fn a_new_session_knows_nothing() {
        let mut known = Known::new("turnpike");
        let first = known.id(&message(7, "x", false), Same::Redelivered);
        known.forget();
        assert_ne!(known.id(&message(7, "x", true), Same::Redelivered), first);
    }
}
