//! How many bodies of a core may be coded at once: each holds a window of its own in memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// About a MiB each.
const MOST: usize = 64;

/// The places of one core.
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<AtomicUsize>);

/// A place, taken while it lives.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub fn take(&self) -> Option<Slot> {
        let slot = Slot(Arc::clone(&self.0));
        (self.0.fetch_add(1, Relaxed) < MOST).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_places_and_each_is_given_back() {
        let slots = Slots::default();
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).take(MOST + 1).collect();
        assert_eq!(taken.len(), MOST);
        assert!(slots.take().is_none());
        drop(taken);
        assert!(slots.take().is_some());
    }
}
