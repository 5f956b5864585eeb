//! What a client sends: one JSON object a frame, with one verb, and an `id` that the answer repeats. And what the frames are
//! called that it is told ([`Said`]).

use events::Envelope;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    confirm::{LONGEST, Wanted},
    problem::Problem,
    publish, query,
    rooms::Room,
};

const VERBS: &str = "hello, sub, unsub, pub, ack, join, leave, members, presence, ping or bye";
const MAX_ID_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 64;
/// Users that are asked about at once.
const MOST_USERS: usize = 256;
const MAX_USER_BYTES: usize = 256;
/// What the name of a room's subscription begins with; a client's own don't.
pub(super) const ROOM: &str = "room:";

#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub id: Option<Value>,
    pub verb: Verb,
}

#[derive(Debug, PartialEq)]
pub(super) enum Verb {
    Hello(Hello),
    Sub(Sub),
    Unsub(Unsub),
    Pub(Box<Pub>),
    Ack(Ack),
    Join(Join),
    Leave(InRoom),
    /// Who is in a room.
    Members(InRoom),
    /// Who is online.
    Presence(Presence),
    /// Whether the broker lives: a page isn't told of the pings that it gets.
    Ping,
    /// The client goes.
    Bye,
}

/// What a client is told: the member that a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Welcome,
    Ok,
    Error,
    Ev,
    Gap,
    CaughtUp,
    Cursor,
    /// A durable subscription is somebody else's now, or nobody's.
    Ended,
    GoAway,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    pub v: u32,
    /// A principal's token, in place of the header's.
    #[serde(default)]
    pub token: Option<String>,
    /// What the client calls itself; for logs.
    #[serde(default)]
    pub client: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sub {
    pub name: String,
    pub filter: String,
    /// `latest` unless given; `earliest`, `-PT5M`, a time, or a cursor.
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub view: Option<String>,
    /// How many events may be on their way unacknowledged.
    #[serde(default)]
    pub credit: Option<usize>,
    #[serde(default)]
    pub durable: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsub {
    pub sub: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ack {
    pub sub: String,
    pub cursor: String,
}

/// Who joins a room also follows it, as the subscription `room:namespace/room`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    pub room: Room,
    /// As that of [`Sub`].
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub credit: Option<usize>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InRoom {
    pub room: Room,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Presence {
    pub users: Vec<String>,
}

/// An event, by its attributes, and how its publish is to be confirmed.
#[derive(Debug, PartialEq)]
pub(super) struct Pub {
    /// Whose it is, is stamped where it is recorded.
    pub event: Envelope,
    pub wanted: Wanted,
}

/// What stands beside an event's attributes; as in a URL and its header fields.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Confirming {
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    allow_degraded: bool,
    #[serde(default)]
    respond_async: bool,
    /// The group in whose handler the publisher is.
    #[serde(default)]
    group: Option<String>,
}

/// Why a frame is refused, and whose it is.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed {
    pub id: Option<Value>,
    pub problem: Problem,
}

impl Frame {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let refuse =
            |id: &Option<Value>, detail: String| Malformed { id: id.clone(), problem: Problem::invalid(detail) };
        let mut members = match serde_json::from_str(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(refuse(&None, "a frame must be a JSON object".to_owned())),
            Err(error) => return Err(refuse(&None, format!("the frame is not JSON: {error}"))),
        };
        let id = match members.remove("id") {
            None => None,
            Some(Value::String(id)) if id.len() > MAX_ID_BYTES => {
                return Err(refuse(&None, format!("id: must be at most {MAX_ID_BYTES} bytes")));
            }
            Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
            Some(_) => return Err(refuse(&None, "id: must be a string or a number".to_owned())),
        };
        let verb = verb(members).map_err(|problem| Malformed { id: id.clone(), problem })?;
        Ok(Self { id, verb })
    }
}

impl Said {
    #[cfg(test)]
    const ALL: [Self; 9] = [
        Self::Welcome,
        Self::Ok,
        Self::Error,
        Self::Ev,
        Self::Gap,
        Self::CaughtUp,
        Self::Cursor,
        Self::Ended,
        Self::GoAway,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Ev => "ev",
            Self::Gap => "gap",
            Self::CaughtUp => "caught_up",
            Self::Cursor => "cursor",
            Self::Ended => "ended",
            Self::GoAway => "goaway",
        }
    }
}

impl Sub {
    /// What can be refused without looking any further.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let name_fits = !self.name.is_empty() && self.name.len() <= MAX_NAME_BYTES;
        if !name_fits || self.name.chars().any(char::is_control) {
            return Err(Problem::invalid(format!("sub.name: must be 1 to {MAX_NAME_BYTES} printable bytes")));
        }
        if self.name.starts_with(ROOM) {
            return Err(Problem::invalid(format!("sub.name: {ROOM} is for rooms, which are joined")));
        }
        Ok(())
    }
}

impl Join {
    /// The name of the subscription that comes with it.
    pub(super) fn name(&self) -> String {
        format!("{ROOM}{}", self.room)
    }
}

impl Presence {
    pub(super) fn check(&self) -> Result<(), Problem> {
        if !(1..=MOST_USERS).contains(&self.users.len()) {
            return Err(Problem::invalid(format!("presence.users: must be 1 to {MOST_USERS} users")));
        }
        if self.users.iter().any(|user| user.is_empty() || user.len() > MAX_USER_BYTES) {
            return Err(Problem::invalid(format!("presence.users: a user's name has 1 to {MAX_USER_BYTES} bytes")));
        }
        Ok(())
    }
}

impl Pub {
    const CONFIRMING: [&str; 5] = ["confirm", "timeout", "allow_degraded", "respond_async", "group"];

    /// Attributes of CloudEvents, of which `specversion` goes without saying.
    fn read(body: Value) -> Result<Self, Problem> {
        let Value::Object(mut members) = body else {
            return Err(Problem::invalid("pub: must be a JSON object"));
        };
        let own = Self::CONFIRMING.iter().filter_map(|&name| members.remove_entry(name)).collect();
        let Confirming { confirm, timeout, allow_degraded, respond_async, group } = body_of("pub", Value::Object(own))?;
        let named = |problem: Problem| Problem { detail: format!("pub.{}", problem.detail).into(), ..problem };
        let mut wanted = Wanted::level(confirm.as_deref().unwrap_or("stored"), allow_degraded).map_err(named)?;
        if let Some(timeout) = timeout {
            wanted.timeout = query::duration("timeout", &timeout, LONGEST).map_err(named)?;
        }
        (wanted.respond_async, wanted.own_group) = (respond_async, group);
        members.entry("specversion").or_insert_with(|| "1.0".into());
        Ok(Self { event: publish::attributes(members, "/clients").map_err(named)?, wanted })
    }
}

fn verb(members: Map<String, Value>) -> Result<Verb, Problem> {
    let mut members = members.into_iter();
    let (Some((name, body)), None) = (members.next(), members.next()) else {
        return Err(Problem::invalid(format!("a frame has one verb: {VERBS}")));
    };
    match name.as_str() {
        "hello" => body_of(&name, body).map(Verb::Hello),
        "sub" => body_of(&name, body).map(Verb::Sub),
        "unsub" => body_of(&name, body).map(Verb::Unsub),
        "pub" => Pub::read(body).map(|body| Verb::Pub(Box::new(body))),
        "ack" => body_of(&name, body).map(Verb::Ack),
        "join" => body_of(&name, body).map(Verb::Join),
        "leave" => body_of(&name, body).map(Verb::Leave),
        "members" => body_of(&name, body).map(Verb::Members),
        "presence" => body_of(&name, body).map(Verb::Presence),
        "ping" => Ok(Verb::Ping),
        "bye" => Ok(Verb::Bye),
        unknown => Err(Problem::invalid(format!("{unknown:.64}: no such verb; there are {VERBS}"))),
    }
}

fn body_of<T: DeserializeOwned>(verb: &str, body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| Problem::invalid(format!("{verb}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;
    use proptest::prelude::*;
    use serde_json::json;

    fn refused(text: &str) -> (Option<Value>, Kind, String) {
        let Malformed { id, problem } = Frame::parse(text).unwrap_err();
        (id, problem.kind, problem.detail.into_owned())
    }

    #[test]
    fn a_malformed_frame_is_told_what_is_wrong_with_it() {
        for (text, says) in [
            ("", "not JSON"),
            ("[]", "JSON object"),
            ("{}", "one verb"),
            (r#"{"id":1}"#, "one verb"),
            (r#"{"id":1,"sub":{},"ack":{}}"#, "one verb"),
            (r#"{"id":{},"sub":{}}"#, "id:"),
            (r#"{"id":1,"shout":{}}"#, "shout"),
            (r#"{"id":1,"sub":{"name":"s"}}"#, "filter"),
            (r#"{"id":1,"sub":{"name":"s","filter":"DB/*","colour":1}}"#, "colour"),
            (r#"{"id":1,"sub":{"name":"s","filter":"DB/*","credit":-1}}"#, "sub:"),
            (r#"{"id":1,"pub":{"queue":"db","event":"A"}}"#, "pub.queue:"),
            (r#"{"id":1,"pub":{"queue":"DB","event":"A","confirm":"soon"}}"#, "pub.confirm:"),
            (r#"{"id":1,"pub":{"queue":"DB","event":"A","timeout":"2h"}}"#, "pub.timeout:"),
            (r#"{"id":1,"pub":{"queue":"DB","event":"A","allow_degraded":"yes"}}"#, "pub:"),
            (r#"{"id":1,"pub":{"queue":"DB","event":"A","time_out":"2s"}}"#, "pub.time_out:"),
            (r#"{"id":1,"pub":[]}"#, "pub:"),
            (r#"{"ack":{"sub":"s"}}"#, "cursor"),
        ] {
            let (_, kind, detail) = refused(text);
            assert_eq!(kind, Kind::Invalid, "{text}");
            assert!(detail.contains(says), "{text}: {detail}");
        }
        assert_eq!(refused(r#"{"id":"a","shout":{}}"#).0, Some("a".into()), "the answer is the asker's");
    }

    #[test]
    fn an_event_comes_with_all_its_attributes() {
        let text = r#"{"pub":{"queue":"DB","event":"A","id":"e1","subject":"products/1","priority":7,"replyto":"queue:ACKS",
            "expectedversion":4,"colour":"red","data_base64":"AAE=","datacontenttype":"image/png","cursor":"mine",
            "confirm":"delivered:logger","timeout":"2s","allow_degraded":true,"group":"notifier"}}"#;
        let Verb::Pub(publish) = Frame::parse(text).unwrap().verb else { panic!("a pub") };
        let Pub { event, wanted } = *publish;
        assert_eq!((event.id.as_str(), event.priority, event.expectedversion), ("e1", 7, Some(4)));
        assert_eq!((event.replyto.as_deref(), event.cursor), (Some("queue:ACKS"), None), "the bus's own is left out");
        assert_eq!((event.data, &event.extensions["colour"]), (Some(events::Data::Binary(vec![0, 1])), &"red".into()));
        assert_eq!((wanted.requested.as_str(), wanted.timeout.as_secs()), ("delivered:logger", 2));
        assert!(wanted.waits() && wanted.allow_degraded);
        assert_eq!(wanted.own_group.as_deref(), Some("notifier"));
    }

    #[test]
    fn a_room_is_named_in_full() {
        let join = Frame::parse(r#"{"id":7,"join":{"room":"chat/lobby","credit":9}}"#).unwrap();
        let Verb::Join(join) = join.verb else { panic!("a join") };
        assert_eq!((join.name().as_str(), join.credit), ("room:chat/lobby", Some(9)));
        for verb in ["join", "leave", "members"] {
            let (id, kind, detail) = refused(&format!(r#"{{"id":7,"{verb}":{{"room":"lobby"}}}}"#));
            assert_eq!((id, kind), (Some(7.into()), Kind::Invalid));
            assert!(detail.contains("namespace/room"), "{detail}");
        }
    }

    #[test]
    fn users_are_asked_about_by_their_names() {
        let many = vec!["u"; MOST_USERS + 1];
        for (users, fits) in [(&["alice", "customers/1"][..], true), (&[], false), (&[""], false), (&many, false)] {
            let presence = Presence { users: users.iter().map(|&user| user.to_owned()).collect() };
            assert_eq!(presence.check().is_ok(), fits, "{users:?}");
        }
    }

    #[test]
    fn whatever_is_told_is_described() {
        let document = &*crate::asyncapi::PROTOCOL;
        let (channel, operations) = (&document["channels"]["socket"]["messages"], &document["operations"]);
        for said in Said::ALL {
            let names_it = |(_, message): &(&String, &Value)| {
                let required = message["payload"]["allOf"][1]["required"].as_array();
                let required = required.or_else(|| message["payload"]["required"].as_array());
                required.is_some_and(|members| members.contains(&said.name().into()))
            };
            let mut messages = document["components"]["messages"].as_object().unwrap().iter();
            let (message, _) = messages.find(names_it).unwrap_or_else(|| panic!("{} is not described", said.name()));
            let at = json!({ "$ref": format!("#/components/messages/{message}") });
            assert!(channel.as_object().unwrap().values().any(|one| *one == at), "{message} is not in the channel");
            let at = json!({ "$ref": format!("#/channels/socket/messages/{message}") });
            let told = [&operations["tell"]["messages"], &operations["hear"]["reply"]["messages"]];
            assert!(told.iter().any(|told| told.as_array().unwrap().contains(&at)), "{message} is not told");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = Frame::parse(&text);
            let _ = Frame::parse(&format!("{{\"sub\":{text}}}"));
        }
    }
}
