//! Who is connected and may be sent away: nobody in particular first, then who holds the most bytes back; at most two in a
//! hundred a second.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The most of all that are sent away in a second.
const RATE: f64 = 0.02;

#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Arc<Place>>,
    /// Departures that are due, and not yet one.
    owed: f64,
}

#[derive(Debug, Default)]
struct Place {
    known: bool,
    /// Bytes that its client has not taken.
    held_back: AtomicUsize,
    sent_away: CancellationToken,
}

/// A client's place; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    place: Arc<Place>,
    crowd: Arc<Crowd>,
}

impl Crowd {
    pub fn sit(self: &Arc<Self>, known: bool) -> Seat {
        let place = Arc::new(Place { known, ..Place::default() });
        let mut seats = self.0.lock();
        seats.last += 1;
        let number = seats.last;
        seats.taken.insert(number, place.clone());
        Seat { number, place, crowd: self.clone() }
    }

    /// Sends away as many as a second allows; how many.
    pub fn shed(&self) -> usize {
        let mut seats = self.0.lock();
        let mut here: Vec<&Arc<Place>> = seats.taken.values().filter(|place| !place.sent_away.is_cancelled()).collect();
        // Never more at once than a second's share, however long nobody was sent away.
        let owed = (seats.owed + here.len() as f64 * RATE).min((here.len() as f64 * RATE).max(1.0));
        let count = owed as usize;
        here.sort_by_key(|place| (place.known, std::cmp::Reverse(place.held_back.load(Relaxed))));
        here.iter().take(count).for_each(|place| place.sent_away.cancel());
        seats.owed = owed - count as f64;
        count
    }
}

impl Seat {
    /// Ends when its client is to be sent away.
    pub async fn sent_away(&self) {
        self.place.sent_away.cancelled().await;
    }

    /// So many bytes wait for it.
    pub fn holds_back(&self, bytes: usize) {
        self.place.held_back.store(bytes, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.0.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_away(seat: &Seat) -> bool {
        seat.place.sent_away.is_cancelled()
    }

    #[test]
    fn two_in_a_hundred_go_a_second_the_unknown_and_the_slow_first() {
        let crowd = Arc::new(Crowd::default());
        let known: Vec<Seat> = (0..197).map(|_| crowd.sit(true)).collect();
        let unknown: Vec<Seat> = (0..3).map(|_| crowd.sit(false)).collect();
        known[7].holds_back(100_000);
        assert_eq!(crowd.shed(), 4);
        assert!(unknown.iter().all(is_away) && is_away(&known[7]));
        // Who was sent away and has not left yet counts no more.
        let seconds: usize = (0..10).map(|_| crowd.shed()).sum();
        assert!((30..=40).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_small_crowd_is_not_sent_away_at_once() {
        let crowd = Arc::new(Crowd::default());
        let seats: Vec<Seat> = (0..10).map(|_| crowd.sit(true)).collect();
        let shed: Vec<usize> = (0..10).map(|_| crowd.shed()).collect();
        assert_eq!(shed.iter().sum::<usize>(), 1, "{shed:?}");
        assert_eq!(seats.iter().filter(|seat| is_away(seat)).count(), 1);
        drop(seats);
        assert!(crowd.0.lock().taken.is_empty());
    }
}
