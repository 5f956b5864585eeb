//! What the endpoints of an upstream have in common: that anything of them has changed, and how many may be out at once.

use std::{
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Instant,
};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// One more with each change: a load of it tells a client whether to look.
    changes: AtomicU64,
    /// How many endpoints there are.
    size: AtomicUsize,
    /// When each one that is ejected comes back.
    ejected: Mutex<Vec<Instant>>,
}

impl Roster {
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// There are other endpoints, or one is in another state.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Release);
    }

    pub fn resize(&self, endpoints: usize) {
        self.size.store(endpoints, Relaxed);
        self.changed();
    }

    /// Takes one out until then, unless as many are out as may be: `percent` of all, and at least one.
    pub fn eject(&self, percent: u32, until: Instant, now: Instant) -> bool {
        let mut ejected = self.ejected.lock();
        ejected.retain(|until| *until > now);
        let most = self.size.load(Relaxed) * percent as usize / 100;
        let has_room = ejected.len() < most.max(1);
        if has_room {
            ejected.push(until);
        }
        has_room
    }

    /// One that was taken out until then is back before, or gone.
    pub fn release(&self, until: Instant) {
        let mut ejected = self.ejected.lock();
        if let Some(place) = ejected.iter().position(|other| *other == until) {
            ejected.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenth_may_be_out_and_at_least_one() {
        let now = Instant::now();
        let then = now + Duration::from_secs(30);
        for (endpoints, most) in [(1, 1), (2, 1), (10, 1), (19, 1), (20, 2), (256, 25)] {
            let roster = Roster::default();
            roster.resize(endpoints);
            assert_eq!((0..endpoints).filter(|_| roster.eject(10, then, now)).count(), most, "of {endpoints}");
            assert!(roster.eject(10, then + Duration::from_secs(30), then), "the first are back");
        }
    }
}
