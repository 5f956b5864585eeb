//! Who attends by this process: [`Attendance`] takes them in, [`super::rounds`] tells the bus of them.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Crowded, Move, Room,
    roll::{MOST, Roll, Waits},
    rounds,
};
use crate::{Bus, Error};

/// The attendance of this process. Clones share it.
#[derive(Clone)]
pub struct Attendance(Arc<Shared>);

pub(super) struct Shared {
    pub(super) bus: Bus,
    pub(super) roll: Mutex<Roll>,
    /// There are news.
    pub(super) changed: Notify,
}

/// A connection that attends the bus; dropped, it is cut.
#[must_use]
pub struct Attending {
    connection: String,
    shared: Arc<Shared>,
    /// It is one of the connection's holders.
    counts: bool,
    /// Those that it came into itself: who shares the connection may be in others.
    rooms: BTreeSet<Room>,
    /// How it ends.
    ends: Move,
}

/// Why a connection isn't in a room, or hasn't left it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotJoined {
    /// Nobody in particular is connected by it, or it isn't there any more.
    #[error("who isn't signed in is in no room")]
    Absent,
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error("this node holds {MOST} connections and rooms they are in already")]
    Full,
    #[error(transparent)]
    Away(#[from] Error),
}

impl Attendance {
    pub fn new(bus: Bus) -> Self {
        Self(Arc::new(Shared { bus, roll: Mutex::default(), changed: Notify::new() }))
    }

    /// A user attends by a connection from now on: it is told within a moment. The same connection may come several times, and is
    /// there until the last one went. One whose name is longer than [`super::LONGEST_USER`] bytes, or no attribute of an event,
    /// isn't present.
    pub fn come(&self, user: &str, connection: &str) -> Attending {
        let counts = self.0.roll.lock().come(user, connection);
        if counts {
            self.0.changed.notify_one();
        } else {
            tracing::debug!(
                connection,
                "a connection that doesn't count: the process has too many, or the user no such name"
            );
        }
        let (connection, shared) = (connection.to_owned(), self.0.clone());
        Attending { connection, shared, counts, rooms: BTreeSet::new(), ends: Move::Cut }
    }

    /// A connection that attends goes into a room; returns once everybody else can know. It is in it until it leaves as often
    /// as it came, or ends.
    ///
    /// # Errors
    /// See [`NotJoined`]; it isn't in the room then, though others may have been told that it came and went.
    pub async fn join(&self, connection: &str, room: &Room) -> Result<(), NotJoined> {
        self.0.join(connection, room).await
    }

    /// A connection goes out of a room; returns once everybody else can know. One that isn't in it does nothing.
    ///
    /// # Errors
    /// [`NotJoined::Away`]: it is told as soon as the bus is back.
    pub async fn leave(&self, connection: &str, room: &Room) -> Result<(), NotJoined> {
        let (waits, told) = oneshot::channel();
        if !self.0.go_out(connection, room, Move::Leave, Some(waits)) {
            return Ok(());
        }
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Tells the bus who is here, until `stop`; then what is new once more.
    pub async fn run(self, stop: CancellationToken) {
        rounds::run(&self.0, stop).await;
    }
}

impl Attending {
    /// Goes into a room, for as long as it attends; others by the same connection have their own rooms. Returns once everybody
    /// else can know.
    ///
    /// # Errors
    /// As [`Attendance::join`].
    pub async fn join(&mut self, room: &Room) -> Result<(), NotJoined> {
        if !self.counts {
            return Err(NotJoined::Absent);
        }
        if !self.rooms.contains(room) {
            self.shared.join(&self.connection, room).await?;
            self.rooms.insert(room.clone());
        }
        Ok(())
    }

    /// The client said that it goes: it counts no longer.
    pub fn bye(mut self) {
        self.ends = Move::Leave;
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        if self.counts {
            self.shared.roll.lock().go(&self.connection, &self.rooms, self.ends);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    async fn join(&self, connection: &str, room: &Room) -> Result<(), NotJoined> {
        let (waits, told) = oneshot::channel();
        self.roll.lock().enter(connection, room, waits)?;
        self.changed.notify_one();
        let joining = Joining { shared: self, connection, room };
        told.await.unwrap_or_else(|_| Err(gone()))?;
        std::mem::forget(joining);
        Ok(())
    }

    /// Whether it was the last one by this connection in the room.
    fn go_out(&self, connection: &str, room: &Room, how: Move, waits: Option<Waits>) -> bool {
        let was_last = self.roll.lock().go_out(connection, room, how, waits);
        if was_last {
            self.changed.notify_one();
        }
        was_last
    }
}

/// While somebody waits to be in a room; dropped, they aren't.
struct Joining<'a> {
    shared: &'a Shared,
    connection: &'a str,
    room: &'a Room,
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.shared.go_out(self.connection, self.room, Move::Leave, None);
    }
}

fn gone() -> NotJoined {
    NotJoined::Away(Error::Unavailable("nobody tells the bus who is here".to_owned()))
}
