//! What was counted, by time: minutes, the oldest of which are put together by ten.

use std::{collections::VecDeque, sync::Arc};

use super::{Cell, Counts, KEPT};
use crate::metrics::OTHER;

const MINUTE: u64 = 60;
const MINUTES: usize = 180;
const TEN: u64 = 600;
const TENS: usize = 24 * 6;
/// Routes in a slot beside [`OTHER`], the busiest once the slot is over; and routes in all slots together. A route in a slot
/// takes some hundred bytes.
const ROUTES: usize = 2_000;
const CELLS: usize = 40_000;

pub struct History {
    /// Nothing is known of what was before, in seconds since 1970.
    since: u64,
    tens: VecDeque<Slot>,
    minutes: VecDeque<Slot>,
}

pub struct Slot {
    pub start: u64,
    pub length: u64,
    pub counts: Counts,
}

impl History {
    pub fn new(now: u64) -> Self {
        Self { since: now, tens: VecDeque::new(), minutes: VecDeque::new() }
    }

    pub fn add(&mut self, counts: &Counts, now: u64) {
        let start = now / MINUTE * MINUTE;
        match self.minutes.back_mut() {
            // A clock that is set back doesn't bring the past back.
            Some(slot) if slot.start >= start => slot.counts.merge(counts),
            _ => {
                if let Some(slot) = self.minutes.back_mut() {
                    slot.close();
                }
                self.minutes.push_back(Slot { start, length: MINUTE, counts: counts.clone() });
                self.bound(now);
            }
        }
    }

    fn bound(&mut self, now: u64) {
        let old = |slot: &Slot| slot.start + MINUTES as u64 * MINUTE <= now;
        while self.minutes.front().is_some_and(old) {
            self.fold();
        }
        let old = |slot: &Slot| slot.start + (TENS as u64 + 1) * TEN + MINUTES as u64 * MINUTE <= now;
        while self.tens.front().is_some_and(old) {
            self.forget();
        }
        while self.cells() > CELLS {
            if self.minutes.len() > 10 {
                self.fold()
            } else if self.tens.is_empty() {
                break;
            } else {
                self.forget()
            }
        }
    }

    /// The oldest minute becomes part of its ten.
    fn fold(&mut self) {
        let Some(minute) = self.minutes.pop_front() else { return };
        let start = minute.start / TEN * TEN;
        match self.tens.back_mut() {
            Some(ten) if ten.start >= start => {
                ten.counts.merge(&minute.counts);
                ten.close();
            }
            _ => self.tens.push_back(Slot { start, length: TEN, counts: minute.counts }),
        }
    }

    fn forget(&mut self) {
        if let Some(slot) = self.tens.pop_front() {
            self.since = self.since.max(slot.start + slot.length);
        }
    }

    fn cells(&self) -> usize {
        self.tens.iter().chain(&self.minutes).map(|slot| slot.counts.routes.len()).sum()
    }

    pub fn since(&self) -> u64 {
        self.since
    }

    /// What begins within a time, oldest first.
    pub fn within(&self, from: u64, to: u64) -> impl Iterator<Item = &Slot> {
        let touches = move |slot: &&Slot| slot.start < to && slot.start + slot.length > from;
        self.tens.iter().chain(&self.minutes).filter(touches)
    }
}

impl Slot {
    /// Nothing more comes: keeps less of it.
    fn close(&mut self) {
        self.counts.clients.shrink(KEPT);
        let routes = &mut self.counts.routes;
        if routes.len() > ROUTES {
            let mut busy: Vec<_> = routes.drain().collect();
            busy.sort_unstable_by_key(|(_, cell)| std::cmp::Reverse(cell.latency.count()));
            let rest = busy.split_off(ROUTES);
            routes.extend(busy);
            // The number of `OTHER`.
            let other = routes.entry(0).or_insert_with(|| Cell::new(&Arc::from(OTHER)));
            rest.iter().for_each(|(_, cell)| other.merge(cell));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(routes: usize) -> Counts {
        let mut counts = Counts::new();
        for number in 1..=routes {
            let name = Arc::from(format!("route {number}"));
            counts.routes.entry(number).or_insert_with(|| Cell::new(&name)).record(200, 1_000);
        }
        counts
    }

    fn total(history: &History, from: u64, to: u64) -> u64 {
        let counts = |slot: &Slot| slot.counts.routes.values().map(|cell| cell.latency.count()).sum::<u64>();
        history.within(from, to).map(counts).sum()
    }

    #[test]
    fn minutes_become_tens_and_tens_are_forgotten() {
        let start = 1_000_000 / TEN * TEN;
        let mut history = History::new(start);
        let day = 24 * 60;
        for minute in 0..day {
            history.add(&counted(1), start + minute * MINUTE);
            history.add(&counted(1), start + minute * MINUTE + 59);
        }
        assert_eq!(total(&history, start, start + day * MINUTE), 2 * day);
        assert!(history.minutes.len() <= MINUTES && history.tens.len() <= TENS);
        assert_eq!(total(&history, start + day * MINUTE - 60, start + day * MINUTE), 2, "the last minute");
        assert_eq!(history.since(), start);
        for minute in day..2 * day {
            history.add(&counted(1), start + minute * MINUTE);
        }
        assert!(history.tens.len() <= TENS + 2);
        assert!(history.since() > start && total(&history, 0, history.since()) == 0);
    }

    #[test]
    fn its_size_is_bounded_whatever_the_number_of_routes() {
        let mut history = History::new(0);
        for minute in 0..100 {
            history.add(&counted(3_000), minute * MINUTE);
        }
        assert!(history.cells() <= CELLS + 3_000, "{}", history.cells());
        assert_eq!(total(&history, 0, u64::MAX) % 3_000, 0, "what is not told apart is still counted");
    }
}
