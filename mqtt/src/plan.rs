//! Settings that make sense: every text of theirs read, every contradiction found.

use std::collections::BTreeSet;

use events::{Address, Name};
use rumqttc::QoS;

use crate::{
    settings::{self, Form, Order, Same, Settings},
    topic::{Filter, Template},
};

/// The most mappings of either kind.
const MOST: usize = 256;
/// The longest name of an outbound mapping: `mqtt.` and it are a group's name.
const MAX_NAME: usize = 32;
/// Queues that the bus itself writes; into rooms others may write, too.
const OWN: [&str; 4] = ["SYS", "PRESENCE", "RECEIPT", ROOMS];
const ROOMS: &str = "ROOMS";
const PLACES: [&str; 5] = ["queue", "event", "subject", "key", "id"];

/// Something wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `inbound[2].topic`
    pub path: String,
    pub message: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub inbound: Vec<Inbound>,
    pub outbound: Vec<Outbound>,
    pub rejected: Address,
}

#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    pub topic: Filter,
    pub queue: Name,
    pub event: Template,
    pub subject: Option<Template>,
    pub key: Option<Template>,
    pub form: Form,
    pub qos: QoS,
    pub same: Same,
    pub retained: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub group: String,
    pub events: events::Filter,
    pub topic: Template,
    pub qos: QoS,
    pub retain: bool,
    pub envelope: bool,
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl ToString) {
        self.0.push(Fault { path: path.into(), message: message.to_string() });
    }

    /// What was read, unless something is wrong with it.
    fn read<T, E: ToString>(&mut self, path: impl Into<String>, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(path, error.to_string())).ok()
    }
}

impl Plan {
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults(Vec::new());
        check_client(settings, &mut faults);
        for (path, count) in [("inbound", settings.inbound.len()), ("outbound", settings.outbound.len())] {
            if count > MOST {
                faults.add(path, format!("must be at most {MOST}"));
            }
        }
        let inbound = settings.inbound.iter().enumerate();
        let inbound: Vec<_> = inbound.filter_map(|(at, one)| self::inbound(at, one, &mut faults)).collect();
        let outbound = settings.outbound.iter().enumerate();
        let outbound: Vec<_> = outbound.filter_map(|(at, one)| self::outbound(at, one, &mut faults)).collect();
        let mut names = BTreeSet::new();
        for (at, one) in settings.outbound.iter().enumerate() {
            if !names.insert(&one.name) {
                faults.add(format!("outbound[{at}].name"), "another mapping has it");
            }
        }
        for (at, _) in
            settings.inbound.iter().enumerate().filter(|(_, one)| one.retained && settings.order == Order::Shared)
        {
            faults.add(
                format!("inbound[{at}].retained"),
                "needs `order: strict`: who shares a subscription gets nothing that was retained",
            );
        }
        // A broker may send a message once for each subscription that takes it.
        let topics: Vec<Option<Filter>> = settings.inbound.iter().map(|one| one.topic.parse().ok()).collect();
        for (at, topic) in topics.iter().enumerate() {
            let overlaps =
                |other: &&Option<Filter>| other.as_ref().zip(topic.as_ref()).is_some_and(|(a, b)| a.overlaps(b));
            if let Some(Some(other)) = topics[..at].iter().find(overlaps) {
                faults.add(
                    format!("inbound[{at}].topic"),
                    format!("overlaps with {other}: a message would be two events"),
                );
            }
        }
        let rejected = faults.read("rejected", settings.rejected.parse::<Address>());
        if rejected.as_ref().is_some_and(|rejected| OWN.contains(&rejected.queue.as_str())) {
            faults.add("rejected", "this queue is the bus's own");
        }
        match rejected {
            Some(rejected) if faults.0.is_empty() => Ok(Self { inbound, outbound, rejected }),
            _ => Err(faults.0),
        }
    }
}

fn check_client(settings: &Settings, faults: &mut Faults) {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let named = |text: &str| (1..=48).contains(&text.len()) && plain(text);
    if !named(&settings.client_id) {
        faults.add("client_id", "must be 1 to 48 of A-Z, a-z, 0-9, '_' and '-'");
    }
    match (&settings.instance, settings.order) {
        (Some(instance), _) if !named(instance) => {
            faults.add("instance", "must be 1 to 48 of A-Z, a-z, 0-9, '_' and '-'");
        }
        (None, Order::Shared) if !settings.inbound.is_empty() => faults.add(
            "instance",
            "is required with `order: shared`: what the broker holds for a dispatcher that died waits for one of its name",
        ),
        _ => {}
    }
    if let Err(error) = crate::link::Address::of(&settings.url) {
        faults.add("url", error);
    }
    if settings.password.is_some() && settings.username.is_none() {
        faults.add("password", "needs a username");
    }
}

fn inbound(at: usize, settings: &settings::Inbound, faults: &mut Faults) -> Option<Inbound> {
    let path = |field: &str| format!("inbound[{at}].{field}");
    let topic: Filter = faults.read(path("topic"), settings.topic.parse())?;
    let numbers: Vec<String> = (1..=topic.wildcards()).map(|number| number.to_string()).collect();
    let mut places: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let Some((queue, event)) = settings.to.split_once('/') else {
        faults.add(path("to"), "must be QUEUE/EVENT");
        return None;
    };
    let queue = faults.read(path("to"), Name::new(queue));
    let event_text = event;
    let event = faults.read(path("to"), Template::parse(event, &places));
    if !event_text.contains('{') {
        faults.read(path("to"), Name::new(event_text));
    }
    places.push("topic");
    let mut template = |field: &str, text: Option<&String>| match text {
        Some(text) => faults.read(path(field), Template::parse(text, &places)).map(Some),
        None => Some(None),
    };
    let (subject, key) = (template("subject", settings.subject.as_ref()), template("key", settings.key.as_ref()));
    let qos = qos(&path("qos"), settings.qos, faults)?;
    if queue.as_ref().is_some_and(|queue| queue.as_str() != ROOMS && OWN.contains(&queue.as_str())) {
        faults.add(path("to"), "this queue is the bus's own");
    }
    Some(Inbound {
        topic,
        queue: queue?,
        event: event?,
        subject: subject?,
        key: key?,
        form: settings.data,
        qos,
        same: settings.same,
        retained: settings.retained,
    })
}

fn outbound(at: usize, settings: &settings::Outbound, faults: &mut Faults) -> Option<Outbound> {
    let path = |field: &str| format!("outbound[{at}].{field}");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !(1..=MAX_NAME).contains(&settings.name.len()) || !settings.name.bytes().all(plain) {
        faults.add(path("name"), format!("must be 1 to {MAX_NAME} of A-Z, a-z, 0-9, '_' and '-'"));
    }
    let events = faults.read(path("events"), settings.events.parse());
    let topic = faults.read(path("topic"), Template::parse(&settings.topic, &PLACES));
    if settings.topic.contains(['+', '#']) {
        faults.add(path("topic"), "a topic to publish to has no wildcards");
    }
    let qos = qos(&path("qos"), settings.qos, faults)?;
    let group = format!("mqtt.{}", settings.name);
    let (retain, envelope) = (settings.retain, settings.envelope);
    Some(Outbound { group, events: events?, topic: topic?, qos, retain, envelope })
}

fn qos(path: &str, number: u8, faults: &mut Faults) -> Option<QoS> {
    match number {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        _ => {
            faults.add(path, "must be 0 or 1");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(yaml: &str) -> Vec<String> {
        let settings: Settings = serde_json::from_str(yaml).unwrap();
        match Plan::of(&settings) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect(),
        }
    }

    #[test]
    fn settings_that_make_sense_are_taken() {
        let none: [String; 0] = [];
        assert_eq!(faults("{}"), none);
        let text = r#"{
            "url": "mqtts://broker:8883", "username": "u", "password": "p", "order": "shared", "instance": "a",
            "inbound": [{"topic": "shop/+/orders/#", "to": "ORDERS/{1}", "subject": "stores/{1}", "key": "{2}", "qos": 0}],
            "outbound": [{"name": "orders", "events": "ORDERS/*", "topic": "shop/{event}/{subject}", "retain": true}]
        }"#;
        assert_eq!(faults(text), none);
    }

    #[test]
    fn what_is_rejected_goes_to_a_queue_that_takes_it() {
        assert_eq!(faults(r#"{"rejected": "ROOMS/REJECTED"}"#), ["rejected: this queue is the bus's own"]);
        assert_eq!(faults(r#"{"rejected": "DB/REJECTED"}"#), [""; 0]);
    }

    #[test]
    fn everything_wrong_is_told_with_its_path() {
        let text = r#"{
            "url": "http://broker", "client_id": "", "order": "shared", "password": "p", "rejected": "nowhere",
            "inbound": [
                {"topic": "a/#/b", "to": "DB/A"}, {"topic": "a/+", "to": "db/A"}, {"topic": "b", "to": "DB/{1}"},
                {"topic": "c", "to": "SYS/A", "subject": "{2}"}, {"topic": "d", "to": "DB/A", "qos": 2},
                {"topic": "d", "to": "DB/A", "retained": true}
            ],
            "outbound": [{"name": "", "events": "*/*", "topic": "a/+"}, {"name": "", "events": "DB/*", "topic": "{x}"}]
        }"#;
        let found = faults(text);
        for path in [
            "url:",
            "client_id:",
            "instance:",
            "password:",
            "rejected:",
            "inbound[0].topic:",
            "inbound[1].to:",
            "inbound[2].to:",
            "inbound[3].to:",
            "inbound[3].subject:",
            "inbound[4].qos:",
            "inbound[5].topic:",
            "inbound[5].retained:",
            "outbound[0].name:",
            "outbound[0].events:",
            "outbound[0].topic:",
            "outbound[1].topic:",
            "outbound[1].name:",
        ] {
            assert!(found.iter().any(|fault| fault.starts_with(path)), "{path} {found:#?}");
        }
    }
}
