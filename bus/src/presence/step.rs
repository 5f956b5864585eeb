//! What a node tells a partition of who attends, and what it is answered: the words between [`super::Attendance`] and a
//! backend.

use std::time::Duration;

use events::Name;

use super::{GRACE, MOST_CONNECTIONS, MOST_MEMBERS, Room, SILENCE, presence, rooms};

/// Where one attends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The bus at all.
    Bus,
    Room(Room),
}

/// What became of a connection in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It is there, since now or before.
    Enter,
    /// It was lost, and counts for the time of grace.
    Cut,
    /// It went.
    Leave,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub what: Move,
    pub scope: Scope,
    /// 1 to [`super::LONGEST_USER`] bytes, no control characters.
    pub user: String,
    /// Without spaces, `@` and `;`.
    pub connection: String,
}

/// What a node tells a partition of `PRESENCE` or `ROOMS`: that it lives, and at most [`Told::MOST`] steps of users, or in rooms, that
/// are the partition's. No two steps are of the same connection and scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who tells, without spaces, `@` and `;`. What stands behind its last dot is which of its lives it is: those of a former one end
    /// by its silence, unless it tells of them again.
    pub node: String,
    pub steps: Vec<Step>,
}

/// Why a connection doesn't count where it wants to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    #[error("the user has {MOST_CONNECTIONS} connections there already")]
    Connections,
    #[error("{MOST_MEMBERS} users are in the room already")]
    Members,
}

/// What a partition answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attended {
    /// Of the partition; 0: it isn't there.
    pub lineage: u64,
    /// The node was known already; else it fell silent, or is new: what it told before doesn't count any more.
    pub known: bool,
    /// There is more to be found from the time that passed: call again.
    pub more: bool,
    /// Users, of `PRESENCE`; rooms with somebody in them, of `ROOMS`.
    pub there: u64,
    /// One each step, in their order.
    pub outcomes: Vec<Result<(), Crowded>>,
}

/// By what a backend judges, in milliseconds.
pub(crate) struct Bounds {
    pub(crate) silence: i64,
    pub(crate) grace: i64,
    /// Between two calls no more time counts than this.
    pub(crate) leap: i64,
    /// Connections that are taken for cut, and users whose grace ends, in one call.
    pub(crate) piece: usize,
}

pub(crate) const BOUNDS: Bounds = Bounds {
    silence: millis_of(SILENCE),
    grace: millis_of(GRACE),
    leap: millis_of(Duration::from_secs(2)),
    piece: 128,
};

const fn millis_of(whole_seconds: Duration) -> i64 {
    whole_seconds.as_secs().cast_signed() * 1000
}

impl Told {
    /// The most steps of a call.
    pub const MOST: usize = 128;
}

impl Scope {
    /// The queue beside which it is kept.
    pub fn queue(&self) -> Name {
        match self {
            Self::Bus => presence(),
            Self::Room(_) => rooms(),
        }
    }

    /// The key whose partition that is.
    pub fn key<'a>(&'a self, user: &'a str) -> &'a str {
        match self {
            Self::Bus => user,
            Self::Room(room) => room.as_str(),
        }
    }

    /// A room's name; of the bus nothing.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bus => "",
            Self::Room(room) => room.as_str(),
        }
    }
}
