//! Who attends by this process, and telling the bus of it: what changed at once, what is so again and again.
//!
//! [`Attendance::run`] is one loop: a round a second, and one whenever somebody comes or goes. A round tells each partition of
//! `PRESENCE` and `ROOMS` what is new to it and a tenth of all that is so, in calls of [`Told::MOST`] steps, the partitions side by side.
//! What can't be told is told by the next round; nobody is forgotten meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use events::Name;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{Attended, Crowded, LONGEST_USER, Move, REFRESH, Room, Scope, Step, Told, presence, rooms};
use crate::{Bus, Error, Partition, metrics};

const BEAT: Duration = Duration::from_secs(1);
/// Rounds within which everything is told once.
const ROUNDS: u64 = REFRESH.as_secs() / BEAT.as_secs();
/// Calls of a round to a partition that has more to find.
const MORE: usize = 64;
/// How long the last round may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections, and rooms they are in, of a process; further ones don't count.
const MOST: usize = 200_000;

/// The attendance of this process. Clones share it.
#[derive(Clone)]
pub struct Attendance(Arc<Shared>);

struct Shared {
    bus: Bus,
    roll: Mutex<Roll>,
    changed: Notify,
}

/// Who is here, and what the bus hasn't been told.
#[derive(Default)]
struct Roll {
    connections: HashMap<String, Connection>,
    /// Connections and the rooms they are in.
    seats: usize,
    news: BTreeMap<Seat, News>,
}

struct Connection {
    user: String,
    /// Polls of one client share a connection.
    holders: usize,
    rooms: BTreeSet<Room>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    connection: String,
    scope: Scope,
    user: String,
}

struct News {
    what: Move,
    /// Who waits until it is told.
    waits: Vec<Waits>,
}

type Waits = oneshot::Sender<Result<(), NotJoined>>;

/// A connection that attends the bus; dropped, it is cut.
#[must_use]
pub struct Attending {
    connection: String,
    shared: Arc<Shared>,
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

/// A partition, as this process knows it.
#[derive(Default)]
struct Known {
    lineage: u64,
    /// How often the lineage changed: a node goes by another name in each.
    lives: u32,
    /// All that is so must be told at once.
    again: bool,
    there: u64,
}

impl Attendance {
    pub fn new(bus: Bus) -> Self {
        Self(Arc::new(Shared { bus, roll: Mutex::default(), changed: Notify::new() }))
    }

    /// A user attends by a connection from now on: it is told within a moment. The same connection may come several times, and is
    /// there until the last one went. One whose name is longer than [`LONGEST_USER`] bytes, or no attribute of an event, isn't
    /// present.
    pub fn come(&self, user: &str, connection: &str) -> Attending {
        let attending = Attending { connection: connection.to_owned(), shared: self.0.clone(), ends: Move::Cut };
        if !can_be_present(user) {
            tracing::debug!(connection, "a user of such a name can't be present");
            return attending;
        }
        let mut roll = self.0.roll.lock();
        let is_full = roll.seats >= MOST;
        match roll.connections.entry(connection.to_owned()) {
            Entry::Occupied(mut known) => known.get_mut().holders += 1,
            Entry::Vacant(_) if is_full => {
                tracing::warn!(connection, "the process attends by as many connections as it can");
                return attending;
            }
            Entry::Vacant(place) => {
                place.insert(Connection { user: user.to_owned(), holders: 1, rooms: BTreeSet::new() });
                roll.seats += 1;
                roll.tell(connection, Scope::Bus, user, Move::Enter, None);
            }
        }
        drop(roll);
        self.0.changed.notify_one();
        attending
    }

    /// A connection that attends goes into a room; returns once everybody else can know.
    ///
    /// # Errors
    /// See [`NotJoined`]; it isn't in the room then, though others may have been told that it came and went.
    pub async fn join(&self, connection: &str, room: &Room) -> Result<(), NotJoined> {
        let told = self.0.enter(connection, room)?;
        let joining = Joining { shared: &self.0, connection, room };
        told.await.unwrap_or_else(|_| Err(gone()))?;
        std::mem::forget(joining);
        Ok(())
    }

    /// A connection goes out of a room; returns once everybody else can know. One that isn't in it does nothing.
    ///
    /// # Errors
    /// [`NotJoined::Away`]: it is told as soon as the bus is back.
    pub async fn leave(&self, connection: &str, room: &Room) -> Result<(), NotJoined> {
        let (waits, told) = oneshot::channel();
        if !self.0.go_out(connection, room, Some(waits)) {
            return Ok(());
        }
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Tells the bus who is here, until `stop`; then what is new once more.
    pub async fn run(self, stop: CancellationToken) {
        let mut known: BTreeMap<(Name, u32), Known> = BTreeMap::new();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0;
        loop {
            let beats = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => true,
                () = self.0.changed.notified() => false,
            };
            round += u64::from(beats);
            let told = self.0.round(&mut known, beats.then_some(round));
            // What is on its way at the end comes to its end, if that doesn't take long.
            let too_long = async {
                stop.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            };
            tokio::select! {
                told = told => {
                    if let Err(error) = told {
                        tracing::debug!(%error, "who attends was not told");
                    }
                }
                () = too_long => return,
            }
        }
        let _ = tokio::time::timeout(FAREWELL, self.0.round(&mut known, None)).await;
    }
}

impl Attending {
    /// The client said that it goes: it counts no longer.
    pub fn bye(mut self) {
        self.ends = Move::Leave;
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let mut roll = self.shared.roll.lock();
        let Entry::Occupied(mut known) = roll.connections.entry(self.connection.clone()) else { return };
        known.get_mut().holders -= 1;
        if known.get().holders > 0 {
            return;
        }
        let Connection { user, rooms, .. } = known.remove();
        roll.seats = roll.seats.saturating_sub(1 + rooms.len());
        for scope in rooms.into_iter().map(Scope::Room).chain([Scope::Bus]) {
            roll.tell(&self.connection, scope, &user, self.ends, None);
        }
        drop(roll);
        self.shared.changed.notify_one();
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
        // Others by the same connection may be in the room: it goes out of it when the last of them goes.
        let is_shared = self.shared.roll.lock().connections.get(self.connection).is_some_and(|known| known.holders > 1);
        if !is_shared {
            self.shared.go_out(self.connection, self.room, None);
        }
    }
}

impl Roll {
    fn tell(&mut self, connection: &str, scope: Scope, user: &str, what: Move, waits: Option<Waits>) {
        let seat = Seat { connection: connection.to_owned(), scope, user: user.to_owned() };
        match self.news.entry(seat) {
            // Several may come by one connection, at once.
            btree_map::Entry::Occupied(news) if news.get().what == what => news.into_mut().waits.extend(waits),
            // What it was to be told before, it needn't be told any more; who waited for that is told that it is gone.
            btree_map::Entry::Occupied(mut news) => _ = news.insert(News { what, waits: waits.into_iter().collect() }),
            btree_map::Entry::Vacant(place) => _ = place.insert(News { what, waits: waits.into_iter().collect() }),
        }
    }

    /// All that is so, of which the caller wants to tell.
    fn seats(&self, mut wants: impl FnMut(&str, &Scope, &str) -> bool) -> Vec<Seat> {
        let mut seats = Vec::new();
        for (connection, Connection { user, rooms, .. }) in &self.connections {
            for scope in rooms.iter().cloned().map(Scope::Room).chain([Scope::Bus]) {
                if wants(connection, &scope, user) {
                    seats.push(Seat { connection: connection.clone(), scope, user: user.clone() });
                }
            }
        }
        seats
    }
}

impl Shared {
    fn enter(&self, connection: &str, room: &Room) -> Result<oneshot::Receiver<Result<(), NotJoined>>, NotJoined> {
        let (waits, told) = oneshot::channel();
        let mut roll = self.roll.lock();
        if roll.seats >= MOST {
            return Err(NotJoined::Full);
        }
        let known = roll.connections.get_mut(connection).ok_or(NotJoined::Absent)?;
        let (user, is_new) = (known.user.clone(), known.rooms.insert(room.clone()));
        roll.seats += usize::from(is_new);
        roll.tell(connection, Scope::Room(room.clone()), &user, Move::Enter, Some(waits));
        drop(roll);
        self.changed.notify_one();
        Ok(told)
    }

    /// Whether it was in the room.
    fn go_out(&self, connection: &str, room: &Room, waits: Option<oneshot::Sender<Result<(), NotJoined>>>) -> bool {
        let mut roll = self.roll.lock();
        let Some(known) = roll.connections.get_mut(connection) else { return false };
        if !known.rooms.remove(room) {
            return false;
        }
        let user = known.user.clone();
        roll.seats = roll.seats.saturating_sub(1);
        roll.tell(connection, Scope::Room(room.clone()), &user, Move::Leave, waits);
        drop(roll);
        self.changed.notify_one();
        true
    }

    /// Tells what is new; in a round that beats, that the node lives and a part of what is so.
    async fn round(&self, known: &mut BTreeMap<(Name, u32), Known>, beats: Option<u64>) -> Result<(), Error> {
        let mut counts = BTreeMap::new();
        for queue in [presence(), rooms()] {
            let count = self.bus.partition(&queue, "").await?.count;
            counts.insert(queue, count);
        }
        let place = |scope: &Scope, user: &str| {
            let queue = scope.queue();
            let count = counts.get(&queue).copied().unwrap_or(1);
            let partition = Partition::of(scope.key(user), count).index;
            (queue, partition)
        };
        let mut work: BTreeMap<(Name, u32), BTreeMap<Seat, News>> = BTreeMap::new();
        if beats.is_some() {
            known.retain(|(queue, partition), _| counts.get(queue).is_some_and(|count| partition < count));
            for (queue, count) in &counts {
                work.extend((0..*count).map(|partition| ((queue.clone(), partition), BTreeMap::new())));
            }
        }
        {
            let mut roll = self.roll.lock();
            let is_due = |connection: &str| beats.is_some_and(|round| turn(connection) == round % ROUNDS);
            let again = |at: &(Name, u32)| known.get(at).is_some_and(|known| known.again);
            let is_wanted = known.values().any(|known| known.again);
            if beats.is_some() || is_wanted {
                let so = roll
                    .seats(|connection, scope, user| is_due(connection) || (is_wanted && again(&place(scope, user))));
                for seat in so {
                    let at = place(&seat.scope, &seat.user);
                    work.entry(at).or_default().insert(seat, News { what: Move::Enter, waits: Vec::new() });
                }
            }
            for (seat, news) in std::mem::take(&mut roll.news) {
                work.entry(place(&seat.scope, &seat.user)).or_default().insert(seat, news);
            }
        }
        let telling = work.into_iter().map(|(at, news)| {
            let mut here = known.remove(&at).unwrap_or_default();
            here.again = false;
            async move {
                let told = self.tell(&at, &mut here, news).await;
                (at, here, told)
            }
        });
        let mut outcome = Ok(());
        for (at, here, told) in join_all(telling).await {
            if here.again {
                self.changed.notify_one();
            }
            known.insert(at, here);
            outcome = outcome.and(told);
        }
        if beats.is_some() {
            let there = |queue: Name| -> u64 {
                known.iter().filter(|((of, _), _)| *of == queue).map(|(_, known)| known.there).sum()
            };
            metrics::present(there(presence()), there(rooms()));
        }
        outcome
    }

    /// Tells a partition, in as many calls as it takes. What it can't be told is new still.
    async fn tell(
        &self,
        (queue, partition): &(Name, u32),
        here: &mut Known,
        news: BTreeMap<Seat, News>,
    ) -> Result<(), Error> {
        let mut left = news.into_iter();
        let mut more = MORE;
        loop {
            let now: Vec<(Seat, News)> = left.by_ref().take(Told::MOST).collect();
            let steps = now.iter().map(|(seat, news)| Step {
                what: news.what,
                scope: seat.scope.clone(),
                user: seat.user.clone(),
                connection: seat.connection.clone(),
            });
            let node = format!("{}.{}", self.bus.roster().node(), here.lives);
            let told = Told { node, steps: steps.collect() };
            match self.bus.attend(queue, *partition, told).await {
                Ok(attended) => {
                    more = more.saturating_sub(usize::from(attended.more));
                    let goes_on = attended.more && more > 0;
                    self.answered(here, now, attended);
                    if left.len() == 0 && !goes_on {
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.not_told(now.into_iter().chain(left), &error);
                    return Err(error);
                }
            }
        }
    }

    fn answered(&self, here: &mut Known, told: Vec<(Seat, News)>, attended: Attended) {
        let is_first = here.lineage == 0;
        if !is_first && here.lineage != attended.lineage {
            // What it knows of this node is of another life, or nothing.
            here.lives += 1;
            here.again = true;
        }
        here.again |= !is_first && !attended.known;
        here.lineage = attended.lineage;
        here.there = attended.there;
        for ((seat, news), outcome) in told.into_iter().zip(attended.outcomes) {
            if let Err(crowded) = outcome {
                tracing::debug!(connection = seat.connection, scope = seat.scope.as_str(), %crowded, "it doesn't count");
            }
            for waits in news.waits {
                // Whoever asked may have gone meanwhile.
                let _ = waits.send(outcome.map_err(NotJoined::Crowded));
            }
        }
    }

    fn not_told(&self, news: impl Iterator<Item = (Seat, News)>, error: &Error) {
        let mut roll = self.roll.lock();
        for (seat, News { what, waits }) in news {
            let was_awaited = !waits.is_empty();
            for waits in waits {
                let _ = waits.send(Err(NotJoined::Away(error.clone())));
            }
            // Who waited to come in goes out by itself. What is so is told again anyway.
            if what != Move::Enter || !was_awaited {
                roll.news.entry(seat).or_insert(News { what, waits: Vec::new() });
            }
        }
    }
}

/// Events speak of it by name.
fn can_be_present(user: &str) -> bool {
    (1..=LONGEST_USER).contains(&user.len()) && !user.chars().any(char::is_control)
}

/// In which round it is told that a connection is still there.
fn turn(connection: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    hasher.finish() % ROUNDS
}

fn gone() -> NotJoined {
    NotJoined::Away(Error::Unavailable("nobody tells the bus who is here".to_owned()))
}
