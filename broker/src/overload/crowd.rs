//! Who is connected and may be sent away: nobody in particular first, and of them who isn't told anything; then who was told of the
//! lowest priorities, then who holds the most bytes back. At most two in a hundred a second, spread over it.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use events::Envelope;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The most of all that are sent away in a second.
const RATE: f64 = 0.02;
/// Who was told nothing for so long is idle.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Arc<Place>>,
    /// Departures that are due, and not yet one.
    owed: f64,
}

#[derive(Debug)]
struct Place {
    known: AtomicBool,
    told: Mutex<Told>,
    /// Bytes that its client has not taken.
    held_back: AtomicUsize,
    sent_away: CancellationToken,
}

/// What its client was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// When it was told something, or came.
    last: Instant,
    /// The highest priority of all that.
    most: Option<u8>,
}

/// Whose turn it is to go: the least goes first.
type Turn = (u8, u8, Reverse<usize>);

/// A client's place; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    place: Arc<Place>,
    crowd: Arc<Crowd>,
}

impl Crowd {
    pub fn sit(self: &Arc<Self>, known: bool) -> Seat {
        let place = Arc::new(Place {
            known: AtomicBool::new(known),
            told: Mutex::new(Told { last: Instant::now(), most: None }),
            held_back: AtomicUsize::new(0),
            sent_away: CancellationToken::new(),
        });
        let mut seats = self.0.lock();
        seats.last += 1;
        let number = seats.last;
        seats.taken.insert(number, place.clone());
        Seat { number, place, crowd: self.clone() }
    }

    /// Sends away as many as this time allows; how many.
    pub fn shed(&self, time: Duration) -> usize {
        let now = Instant::now();
        let mut seats = self.0.lock();
        let here = seats.taken.values().filter(|place| !place.sent_away.is_cancelled());
        let mut here: Vec<(Turn, &Arc<Place>)> = here.map(|place| (place.turn(now), place)).collect();
        let owed = seats.owed + here.len() as f64 * RATE * time.as_secs_f64();
        let count = (owed as usize).min(here.len());
        if count > 0 {
            here.select_nth_unstable_by_key(count - 1, |(turn, _)| *turn);
        }
        here.iter().take(count).for_each(|(_, place)| place.sent_away.cancel());
        // Less than one: whoever is away for long owes no more.
        seats.owed = owed.fract();
        count
    }
}

impl Place {
    fn turn(&self, now: Instant) -> Turn {
        let told = *self.told.lock();
        let who = match (self.known.load(Relaxed), now.duration_since(told.last) >= IDLE) {
            (false, true) => 0,
            (false, false) => 1,
            (true, _) => 2,
        };
        (who, told.most.unwrap_or(Envelope::DEFAULT_PRIORITY), Reverse(self.held_back.load(Relaxed)))
    }
}

impl Seat {
    /// Ends when its client is to be sent away.
    pub async fn sent_away(&self) {
        self.place.sent_away.cancelled().await;
    }

    /// Whether it is known who its client is: a socket may say so after it came.
    pub fn is_known(&self, known: bool) {
        self.place.known.store(known, Relaxed);
    }

    /// It was told of an event of this priority.
    pub fn told(&self, priority: u8) {
        let mut told = self.place.told.lock();
        *told = Told { last: Instant::now(), most: told.most.max(Some(priority)) };
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

    const TENTH: Duration = Duration::from_millis(100);

    fn is_away(seat: &Seat) -> bool {
        seat.place.sent_away.is_cancelled()
    }

    /// How many go in a second, and the most of them at once.
    fn second(crowd: &Crowd) -> (usize, usize) {
        let shed: Vec<usize> = (0..10).map(|_| crowd.shed(TENTH)).collect();
        (shed.iter().sum(), *shed.iter().max().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn two_in_a_hundred_go_a_second_and_not_all_at_once() {
        let crowd = Arc::new(Crowd::default());
        let seats: Vec<Seat> = (0..2000).map(|_| crowd.sit(true)).collect();
        let (mut left, mut away) = (2000, 0);
        for _ in 0..10 {
            let (gone, at_once) = second(&crowd);
            assert!(
                (left / 50 - 1..=left / 50 + 1).contains(&gone) && at_once <= 4,
                "{gone} of {left}, {at_once} at once"
            );
            // Who was sent away and has not left yet counts no more.
            (left, away) = (left - gone, away + gone);
        }
        assert_eq!(seats.iter().filter(|seat| is_away(seat)).count(), away);
    }

    #[tokio::test(start_paused = true)]
    async fn each_goes_in_its_turn() {
        let crowd = Arc::new(Crowd::default());
        let idle = crowd.sit(false);
        tokio::time::advance(IDLE).await;
        let (known, slow, droppable, critical) = (crowd.sit(true), crowd.sit(true), crowd.sit(true), crowd.sit(true));
        let (nobody, nobody_slow) = (crowd.sit(false), crowd.sit(false));
        nobody_slow.holds_back(10);
        slow.holds_back(100_000);
        critical.holds_back(200_000);
        droppable.told(0);
        for priority in [9, 0] {
            critical.told(priority);
        }
        for next in [&idle, &nobody_slow, &nobody, &droppable, &slow, &known, &critical] {
            assert!(!is_away(next));
            while crowd.shed(Duration::from_secs(1)) == 0 {}
            assert!(is_away(next));
        }
        assert_eq!((0..1000).map(|_| crowd.shed(TENTH)).sum::<usize>(), 0, "nobody is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_crowd_is_not_sent_away_at_once() {
        let crowd = Arc::new(Crowd::default());
        let seats: Vec<Seat> = (0..10).map(|_| crowd.sit(true)).collect();
        let shed: Vec<usize> = (0..8).map(|_| second(&crowd).0).collect();
        assert_eq!(shed.iter().sum::<usize>(), 1, "{shed:?}");
        assert_eq!(seats.iter().filter(|seat| is_away(seat)).count(), 1);
        drop(seats);
        assert!(crowd.0.lock().taken.is_empty());
    }
}
