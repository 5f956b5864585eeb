//! Requests and failures of the last while, in slots that fall out one after the other.

use std::time::{Duration, Instant};

const SLOTS: u64 = 10;

/// A tenth of the window is a slot; slots are numbered by the clock.
#[derive(Debug, Default)]
pub(super) struct Window([Slot; SLOTS as usize]);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    requests: u64,
    failures: u64,
}

/// Which slot a moment falls into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    begun: Instant,
    millis: u64,
}

impl Slots {
    pub fn new(window: Duration, begun: Instant) -> Self {
        Self { begun, millis: (window.as_millis() as u64 / SLOTS).max(1) }
    }

    /// From 1: a window that nothing was added to has slots numbered 0.
    pub fn of(self, now: Instant) -> u64 {
        1 + now.saturating_duration_since(self.begun).as_millis() as u64 / self.millis
    }
}

impl Window {
    /// What happened in a slot; one that has fallen out takes nothing more.
    pub fn add(&mut self, number: u64, requests: u64, failures: u64) {
        let slot = &mut self.0[(number % SLOTS) as usize];
        if number > slot.number {
            *slot = Slot { number, ..Slot::default() };
        }
        if number == slot.number {
            slot.requests += requests;
            slot.failures += failures;
        }
    }

    /// Requests, and those of them that failed, up to the slot `number`.
    pub fn sum(&self, number: u64) -> (u64, u64) {
        let recent = self.0.iter().filter(|slot| slot.number + SLOTS > number);
        recent.fold((0, 0), |(requests, failures), slot| (requests + slot.requests, failures + slot.failures))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_falls_out() {
        let mut window = Window::default();
        for number in 100..120 {
            window.add(number, 10, 1);
        }
        assert_eq!(window.sum(119), (100, 10));
        assert_eq!(window.sum(124), (50, 5));
        window.add(109, 1000, 1000);
        assert_eq!(window.sum(119), (100, 10), "too late");
        window.add(119, 5, 5);
        assert_eq!(window.sum(119), (105, 15));
        assert_eq!(window.sum(200), (0, 0));
    }
}
