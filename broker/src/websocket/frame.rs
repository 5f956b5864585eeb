//! What a client sends: one JSON object a frame, with one verb, and an `id` that the answer repeats.

use events::{Envelope, Name};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    problem::{Kind, Problem},
    rooms::Room,
};

const VERBS: &str = "hello, sub, unsub, pub, ack, join, leave, members, presence or bye";
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
    /// The client goes.
    Bye,
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

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pub {
    pub queue: Name,
    pub event: Name,
    /// The event's id: publishing it again does nothing.
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub partitionkey: Option<String>,
    #[serde(default)]
    pub data: Option<Value>,
    #[serde(default)]
    pub confirm: Option<String>,
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
        if self.durable {
            return Err(Problem::new(Kind::NotSupported, "sub.durable: durable subscriptions are not supported"));
        }
        match self.view.as_deref() {
            None | Some("stream") => Ok(()),
            Some("latest") => Err(Problem::new(Kind::NotSupported, "sub.view: the view latest is not supported")),
            Some(_) => Err(Problem::invalid("sub.view: must be stream")),
        }
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
    /// The event; whose it is, is stamped where it is recorded.
    pub(super) fn into_envelope(self) -> Envelope {
        let mut envelope = Envelope::new("/clients", self.queue, self.event);
        if let Some(id) = self.id {
            envelope.id = id;
        }
        envelope.subject = self.subject;
        envelope.partitionkey = self.partitionkey;
        match self.data {
            Some(data) => envelope.data(data),
            None => envelope,
        }
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
        "pub" => body_of(&name, body).map(|body| Verb::Pub(Box::new(body))),
        "ack" => body_of(&name, body).map(Verb::Ack),
        "join" => body_of(&name, body).map(Verb::Join),
        "leave" => body_of(&name, body).map(Verb::Leave),
        "members" => body_of(&name, body).map(Verb::Members),
        "presence" => body_of(&name, body).map(Verb::Presence),
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
    use proptest::prelude::*;

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
            (r#"{"id":1,"pub":{"queue":"db","event":"A"}}"#, "db"),
            (r#"{"ack":{"sub":"s"}}"#, "cursor"),
        ] {
            let (_, kind, detail) = refused(text);
            assert_eq!(kind, Kind::Invalid, "{text}");
            assert!(detail.contains(says), "{text}: {detail}");
        }
        assert_eq!(refused(r#"{"id":"a","shout":{}}"#).0, Some("a".into()), "the answer is the asker's");
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        let durable = r#"{"sub":{"name":"s","filter":"DB/*","durable":true}}"#;
        let Verb::Sub(sub) = Frame::parse(durable).unwrap().verb else { panic!("a sub") };
        assert_eq!(sub.check().unwrap_err().kind, Kind::NotSupported);
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = Frame::parse(&text);
            let _ = Frame::parse(&format!("{{\"sub\":{text}}}"));
        }
    }
}
