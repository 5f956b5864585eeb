//! A client's place, kept for it under a name while it is away, so that it goes on from there on any node.
//!
//! Whoever opened a bookmark last holds it, and nobody else moves it: what a connection that lingers somewhere says late
//! changes nothing. What the place is, is its reader's business.

use std::time::Duration;

use time::OffsetDateTime;

use crate::Error;

/// How long a bookmark is kept that nobody opens or moves.
pub(crate) const LIFE: Duration = Duration::from_secs(7 * 86_400);
/// The most bookmarks of a user.
pub(crate) const MOST: usize = 64;

const MAX_USER_BYTES: usize = 512;
const MAX_NAME_BYTES: usize = 64;
const MAX_FILTER_BYTES: usize = 4096;
/// Some thousand queues, or some of very many partitions.
const MAX_CURSOR_BYTES: usize = 512 * 1024;

/// A user's place, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    pub name: String,
    /// What is read, as its reader writes it.
    pub filter: String,
    /// Up to where it was read; None: not at all yet.
    pub cursor: Option<String>,
    /// When it was opened or moved last.
    pub used: OffsetDateTime,
}

/// A bookmark that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Says who may move it.
    pub holder: u64,
    pub cursor: Option<String>,
}

/// A place that a bookmark is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub user: String,
    pub name: String,
    pub holder: u64,
    pub cursor: String,
}

/// What became of a [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// Somebody else has opened it since.
    Taken,
    /// There is none: it was removed, or was too old.
    Gone,
}

pub(crate) fn check(user: &str, name: &str, filter: &str) -> Result<(), Error> {
    for (field, text, most) in
        [("user", user, MAX_USER_BYTES), ("name", name, MAX_NAME_BYTES), ("filter", filter, MAX_FILTER_BYTES)]
    {
        if text.is_empty() || text.len() > most {
            return Err(Error::Invalid(format!("{field}: must be 1 to {most} bytes")));
        }
    }
    Ok(())
}

pub(crate) fn check_moves(moves: &[Move]) -> Result<(), Error> {
    match moves.iter().find(|moved| moved.cursor.is_empty() || moved.cursor.len() > MAX_CURSOR_BYTES) {
        None => Ok(()),
        Some(_) => Err(Error::Invalid(format!("cursor: must be 1 to {MAX_CURSOR_BYTES} bytes"))),
    }
}

/// A user has as many as it may.
pub(crate) fn too_many() -> Error {
    Error::Conflict(format!("name: {MOST} are kept already, the most there may be; remove one"))
}
