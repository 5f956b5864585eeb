//! The roll of a process: who is here, in which rooms, and what of that the bus hasn't been told. Nothing here waits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use tokio::sync::oneshot;

use super::{LONGEST_USER, Move, NotJoined, Room, Scope};
use crate::Error;

/// Connections, and rooms they are in, of a process; further ones don't count. As many news wait to be told: where the bus is
/// away for so long that there are more, they are forgotten.
pub(super) const MOST: usize = 200_000;

pub(super) struct Roll {
    connections: HashMap<String, Connection>,
    /// Connections and the rooms they are in.
    seats: usize,
    news: News,
    most: usize,
    /// There were too many news: what went can't be told any more.
    forgot: bool,
}

struct Connection {
    user: String,
    /// Spreads the connections over the rounds.
    turn: u64,
    /// Polls of one client share a connection.
    holders: usize,
    /// By how many of them each is attended.
    rooms: BTreeMap<Room, usize>,
}

/// A connection in a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) connection: String,
    pub(super) scope: Scope,
    pub(super) user: String,
}

/// What became of a seat.
pub(super) struct New {
    pub(super) what: Move,
    /// Who waits until it is told.
    pub(super) waits: Vec<Waits>,
}

pub(super) type News = BTreeMap<Seat, New>;
pub(super) type Waits = oneshot::Sender<Result<(), NotJoined>>;

impl Default for Roll {
    fn default() -> Self {
        Self { connections: HashMap::new(), seats: 0, news: News::new(), most: MOST, forgot: false }
    }
}

impl Roll {
    /// Whether it counts.
    pub(super) fn come(&mut self, user: &str, connection: &str) -> bool {
        if !can_be_present(user) {
            return false;
        }
        match self.connections.entry(connection.to_owned()) {
            Entry::Occupied(mut known) => known.get_mut().holders += 1,
            Entry::Vacant(_) if self.seats >= self.most => return false,
            Entry::Vacant(place) => {
                let turn = turn(connection);
                place.insert(Connection { user: user.to_owned(), turn, holders: 1, rooms: BTreeMap::new() });
                self.seats += 1;
                self.tell(connection, Scope::Bus, user, Move::Enter, None);
            }
        }
        true
    }

    /// One of a connection's holders goes, with the rooms that it came into itself; with the last one whatever is left.
    pub(super) fn go(&mut self, connection: &str, own: &BTreeSet<Room>, how: Move) {
        for room in own {
            self.go_out(connection, room, how, None);
        }
        let Some(known) = self.connections.get_mut(connection) else { return };
        known.holders -= 1;
        if known.holders > 0 {
            return;
        }
        let Some(Connection { user, rooms, .. }) = self.connections.remove(connection) else { return };
        self.seats = self.seats.saturating_sub(1 + rooms.len());
        for scope in rooms.into_keys().map(Scope::Room).chain([Scope::Bus]) {
            self.tell(connection, scope, &user, how, None);
        }
    }

    /// One of a connection's holders goes into a room, and waits until that is told.
    pub(super) fn enter(&mut self, connection: &str, room: &Room, waits: Waits) -> Result<(), NotJoined> {
        let known = self.connections.get_mut(connection).ok_or(NotJoined::Absent)?;
        match known.rooms.get_mut(room) {
            Some(holders) => *holders += 1,
            None if self.seats >= self.most => return Err(NotJoined::Full),
            None => {
                known.rooms.insert(room.clone(), 1);
                self.seats += 1;
            }
        }
        let user = known.user.clone();
        self.tell(connection, Scope::Room(room.clone()), &user, Move::Enter, Some(waits));
        Ok(())
    }

    /// One of them goes out of it; whether it was the last one.
    pub(super) fn go_out(&mut self, connection: &str, room: &Room, how: Move, waits: Option<Waits>) -> bool {
        let Some(known) = self.connections.get_mut(connection) else { return false };
        let Some(holders) = known.rooms.get_mut(room) else { return false };
        *holders -= 1;
        if *holders > 0 {
            return false;
        }
        known.rooms.remove(room);
        let user = known.user.clone();
        self.seats = self.seats.saturating_sub(1);
        self.tell(connection, Scope::Room(room.clone()), &user, how, waits);
        true
    }

    /// All that is so, of which the caller wants to tell.
    pub(super) fn seats(&self, mut wants: impl FnMut(u64, &Scope, &str) -> bool) -> Vec<Seat> {
        let mut seats = Vec::new();
        for (connection, Connection { user, turn, rooms, .. }) in &self.connections {
            for scope in rooms.keys().cloned().map(Scope::Room).chain([Scope::Bus]) {
                if wants(*turn, &scope, user) {
                    seats.push(Seat { connection: connection.clone(), scope, user: user.clone() });
                }
            }
        }
        seats
    }

    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Whether some were forgotten since this was asked last.
    pub(super) fn take_forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// These couldn't be told. Whoever waits is told so, and what may not be lost is new still.
    pub(super) fn give_back(&mut self, news: impl Iterator<Item = (Seat, New)>, error: &Error) {
        for (seat, New { what, waits }) in news {
            let was_awaited = !waits.is_empty();
            for waits in waits {
                let _ = waits.send(Err(NotJoined::Away(error.clone())));
            }
            // Who waited to come in goes out by itself. What is so is told again anyway.
            if what == Move::Enter && was_awaited {
                continue;
            }
            self.make_room(&seat);
            // Where some were forgotten, all that is so is told anew by another name: of these, what made them untrue may
            // have been among those.
            if !self.forgot {
                self.news.entry(seat).or_insert(New { what, waits: Vec::new() });
            }
        }
    }

    fn tell(&mut self, connection: &str, scope: Scope, user: &str, what: Move, waits: Option<Waits>) {
        let seat = Seat { connection: connection.to_owned(), scope, user: user.to_owned() };
        self.make_room(&seat);
        match self.news.entry(seat) {
            // Several may come by one connection, at once.
            btree_map::Entry::Occupied(new) if new.get().what == what => new.into_mut().waits.extend(waits),
            // What it was to be told before, it needn't be told any more; who waited for that is told that it is gone.
            btree_map::Entry::Occupied(mut new) => _ = new.insert(New { what, waits: waits.into_iter().collect() }),
            btree_map::Entry::Vacant(place) => _ = place.insert(New { what, waits: waits.into_iter().collect() }),
        }
    }

    fn make_room(&mut self, seat: &Seat) {
        if self.news.len() >= self.most && !self.news.contains_key(seat) {
            self.news.clear();
            self.forgot = true;
        }
    }
}

/// Events speak of it by name.
fn can_be_present(user: &str) -> bool {
    (1..=LONGEST_USER).contains(&user.len()) && !user.chars().any(char::is_control)
}

fn turn(connection: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Roll {
        Roll { most: 10, ..Roll::default() }
    }

    #[test]
    fn news_that_nobody_hears_are_forgotten_in_time() {
        let mut roll = small();
        for number in 0..10 {
            let connection = format!("c{number}");
            assert!(roll.come("alice", &connection));
            roll.go(&connection, &BTreeSet::new(), Move::Cut);
        }
        assert!(!roll.take_forgot());
        assert!(roll.come("alice", "here"));
        assert_eq!((roll.take_news().len(), roll.take_forgot()), (1, true));
        assert_eq!(roll.seats(|_, _, _| true).len(), 1, "who is here is known all the same");
    }

    #[test]
    fn who_went_while_nobody_heard_is_not_told_to_have_come() {
        let mut roll = small();
        assert!(roll.come("alice", "c0"));
        let on_its_way = roll.take_news();
        roll.go("c0", &BTreeSet::new(), Move::Cut);
        for number in 1..=10 {
            let connection = format!("c{number}");
            roll.come("bob", &connection);
            roll.go(&connection, &BTreeSet::new(), Move::Cut);
        }
        roll.give_back(on_its_way.into_iter(), &Error::Unavailable("away".to_owned()));
        assert!(roll.take_news().keys().all(|seat| seat.connection != "c0"));
        assert!(roll.take_forgot());
    }

    #[test]
    fn a_process_holds_so_many_and_no_more() {
        let mut roll = small();
        for wrong in ["", "a\nb", &"a".repeat(LONGEST_USER + 1)] {
            assert!(!roll.come(wrong, "c"), "{wrong:?}");
        }
        let enter = |roll: &mut Roll, room: &str| {
            let (waits, _told) = oneshot::channel();
            roll.enter("0", &room.parse().unwrap(), waits)
        };
        (0..9).for_each(|number| assert!(roll.come("alice", &number.to_string())));
        enter(&mut roll, "chat/lobby").unwrap();
        enter(&mut roll, "chat/lobby").unwrap();
        let full = enter(&mut roll, "chat/hall");
        assert!(matches!(full, Err(NotJoined::Full)), "{full:?}");
        assert!(!roll.come("alice", "one more"));
        assert!(roll.come("alice", "0"), "which is there");
        roll.go("1", &BTreeSet::new(), Move::Cut);
        enter(&mut roll, "chat/hall").unwrap();
    }
}
