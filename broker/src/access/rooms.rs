//! Rooms, as a scope names them.

use bus::Room;

/// Which rooms: `chat/lobby`, `chat/*`, `chat/team-*`, `*/*`.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    namespace: Names,
    room: Names,
}

#[derive(Clone, Debug)]
struct Names {
    begins: String,
    /// It may go on.
    open: bool,
}

impl Rooms {
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, room) = text.split_once('/')?;
        Some(Self { namespace: Names::parse(namespace)?, room: Names::parse(room)? })
    }

    pub fn have(&self, room: &Room) -> bool {
        self.namespace.have(room.namespace()) && self.room.have(room.name())
    }

    pub fn are_all(&self) -> bool {
        [&self.namespace, &self.room].iter().all(|names| names.open && names.begins.is_empty())
    }
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let (begins, open) = text.strip_suffix('*').map_or((text, false), |begins| (begins, true));
        let fits = (open || !begins.is_empty()) && !begins.contains(['*', '/']);
        fits.then(|| Self { begins: begins.to_owned(), open })
    }

    fn have(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.begins) } else { name == self.begins }
    }
}
