//! A room's name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name of a namespace, and of a room in it.
const MOST_BYTES: usize = 64;

/// A room's name: `namespace/room`, each 1 to 64 of `A-Z a-z 0-9 . _ -`. It is the subject, and the key, of the room's
/// events in the queue `ROOMS`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Room(String);

/// Why something is no room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room is namespace/room, each 1 to {MOST_BYTES} of A-Z, a-z, 0-9, '.', '_' and '-'")]
pub struct NoRoom;

impl Room {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the slash.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// What stands behind it.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
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

impl From<Room> for String {
    fn from(room: Room) -> Self {
        room.0
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
            let room: Room = text.parse().unwrap();
            assert_eq!(
                (room.to_string().as_str(), format!("{}/{}", room.namespace(), room.name()).as_str()),
                (text, text)
            );
        }
        for text in
            ["", "lobby", "/", "chat/", "/lobby", "chat/lobby/1", "chat/lob by", "chat/*", &format!("{long}a/a")]
        {
            assert_eq!(text.parse::<Room>(), Err(NoRoom), "{text}");
        }
    }
}
