//! Rooms, and who is where: what sockets ask of them. A room is a subject of the queue `ROOMS`, `namespace/room`.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    access::Caller,
    hub::Begin,
    problem::{Kind, Problem},
    shared::Shared,
    told::Subscriber,
};

/// The longest name of a namespace, and of a room in it.
const MOST_BYTES: usize = 64;

/// A room's name: `namespace/room`, each 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Room(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room is namespace/room, each 1 to {MOST_BYTES} of A-Z, a-z, 0-9, '.', '_' and '-'")]
pub(crate) struct NoRoom;

/// Who joined is told what happens in the room, and begins with who is in it.
#[expect(dead_code, reason = "nobody can join a room yet")]
pub(crate) struct Joined {
    pub members: Vec<Value>,
    pub subscriber: Subscriber,
}

/// Joins a room with a connection, and follows it.
pub(crate) async fn join(
    _shared: &Shared,
    _caller: &Caller,
    _conn: &str,
    _room: &Room,
    _begin: Begin,
) -> Result<Joined, Problem> {
    Err(not_supported("join"))
}

/// Leaves a room with a connection.
pub(crate) async fn leave(_shared: &Shared, _caller: &Caller, _conn: &str, _room: &Room) -> Result<(), Problem> {
    Err(not_supported("leave"))
}

/// Who is in a room.
pub(crate) async fn members(_shared: &Shared, _caller: &Caller, _room: &Room) -> Result<Vec<Value>, Problem> {
    Err(not_supported("members"))
}

/// Which of these users are online, and since when.
pub(crate) async fn presence(_shared: &Shared, _caller: &Caller, _users: &[String]) -> Result<Vec<Value>, Problem> {
    Err(not_supported("presence"))
}

fn not_supported(verb: &str) -> Problem {
    Problem::new(Kind::NotSupported, format!("{verb}: rooms and presence are not supported"))
}

impl FromStr for Room {
    type Err = NoRoom;

    fn from_str(text: &str) -> Result<Self, NoRoom> {
        let fits = |name: &str| {
            (1..=MOST_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        match text.split_once('/') {
            Some((namespace, room)) if fits(namespace) && fits(room) => Ok(Self(text.to_owned())),
            _ => Err(NoRoom),
        }
    }
}

impl TryFrom<String> for Room {
    type Error = NoRoom;

    fn try_from(text: String) -> Result<Self, NoRoom> {
        text.parse()
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_a_namespace() {
        let long = "a".repeat(MOST_BYTES);
        for text in ["chat/lobby", "a.b/c_d-E9", &format!("{long}/{long}")] {
            assert_eq!(text.parse::<Room>().unwrap().to_string(), text);
        }
        for text in
            ["", "lobby", "/", "chat/", "/lobby", "chat/lobby/1", "chat/lob by", "chat/*", &format!("{long}a/a")]
        {
            assert_eq!(text.parse::<Room>(), Err(NoRoom), "{text}");
        }
    }
}
