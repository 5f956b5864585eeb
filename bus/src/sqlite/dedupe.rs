//! The dedupe window of a partition: which (source, id) were recorded in the last hours, and where. In memory,
//! bounded, rebuilt from the log at opening.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

pub(super) struct Window {
    positions: HashMap<u128, u64>,
    /// By time of recording: (time, hash, position).
    order: VecDeque<(i64, u128, u64)>,
    capacity: usize,
    /// How far back it reaches, in milliseconds.
    reach: i64,
    cut_short: bool,
    // Two keyed hashes make 128 bits that nobody outside can aim at.
    hashers: (RandomState, RandomState),
}

impl Window {
    pub(super) fn new(capacity: usize, reach: Duration) -> Self {
        Self {
            positions: HashMap::new(),
            order: VecDeque::new(),
            capacity,
            reach: millis(reach),
            cut_short: false,
            hashers: (RandomState::new(), RandomState::new()),
        }
    }

    pub(super) fn reach(&self) -> i64 {
        self.reach
    }

    /// What was forgotten already stays forgotten.
    pub(super) fn set_reach(&mut self, reach: Duration) {
        self.reach = millis(reach);
    }

    pub(super) fn hash(&self, source: &str, id: &str) -> u128 {
        let half = |hasher: &RandomState| u128::from(hasher.hash_one((source, id)));
        half(&self.hashers.0) << 64 | half(&self.hashers.1)
    }

    /// Where it was recorded, if within the window.
    pub(super) fn find(&mut self, hash: u128, now: i64) -> Option<u64> {
        self.forget(now);
        self.positions.get(&hash).copied()
    }

    pub(super) fn insert(&mut self, hash: u128, position: u64, recorded: i64) {
        if self.reach == 0 {
            return;
        }
        // What is too old needn't make room, nor is it missed.
        self.forget(recorded);
        if self.order.len() >= self.capacity
            && let Some((_, oldest, position)) = self.order.pop_front()
        {
            self.remove(oldest, position);
            if !self.cut_short {
                tracing::warn!(
                    capacity = self.capacity,
                    "the dedupe window is full: it reaches back less far than is set"
                );
            }
            self.cut_short = true;
        }
        self.positions.insert(hash, position);
        self.order.push_back((recorded, hash, position));
    }

    /// Whether it reaches back less far than it should.
    pub(super) fn cut_short(&self) -> bool {
        self.cut_short
    }

    fn forget(&mut self, now: i64) {
        while let Some((recorded, hash, position)) = self.order.front().copied()
            && recorded <= now - self.reach
        {
            self.order.pop_front();
            self.remove(hash, position);
            self.cut_short = false;
        }
    }

    /// Forgets what was recorded there; not what a relay had recorded again since.
    fn remove(&mut self, hash: u128, position: u64) {
        if self.positions.get(&hash) == Some(&position) {
            self.positions.remove(&hash);
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: i64 = 7_200_000;

    #[test]
    fn it_forgets_after_two_hours_and_beyond_its_capacity() {
        let mut window = Window::new(2, Duration::from_secs(7200));
        let [a, b, c] = ["a", "b", "c"].map(|id| window.hash("/services/product", id));
        window.insert(a, 1, 0);
        window.insert(b, 2, 10);
        assert_eq!(window.find(a, 20), Some(1));
        window.insert(c, 3, 20);
        assert_eq!(window.find(a, 20), None);
        assert!(window.cut_short());
        assert_eq!(window.find(b, 20), Some(2));
        assert_eq!(window.find(b, 10 + WINDOW), None);
        assert_eq!(window.find(c, 10 + WINDOW), Some(3));
    }

    #[test]
    fn what_makes_room_because_it_is_too_old_does_not_cut_it_short() {
        let mut window = Window::new(2, Duration::from_secs(7200));
        // As a relay's events are: nobody looks for them before.
        for position in 1..10 {
            let hash = window.hash("/services/product", &position.to_string());
            window.insert(hash, position, i64::try_from(position).unwrap() * WINDOW);
        }
        assert!(!window.cut_short());
        assert_eq!(window.order.len(), 1);
    }
}
