//! How much the readers of the log hold of it. A client that reads it is given a page after the other, and may rest with one:
//! so all readers of a node share what they may hold, and the more there are, the less each reads ahead.
//!
//! Together they hold at most 128 MiB, as long as there are no more than 8,192 of them; beyond that [`LEAST`] each. An event that
//! is larger than a reader's share is held alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bus::Ahead;

/// The most that one reader reads ahead, and the least: a page must be worth the asking.
const MOST: Ahead = Ahead { events: 128, bytes: 1 << 20 };
const LEAST: Ahead = Ahead { events: 8, bytes: 16 * 1024 };
/// What all of a node hold together.
const TOGETHER: Ahead = Ahead { events: 64 * 1024, bytes: 128 << 20 };

/// How many readers of the log there are. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<AtomicUsize>);

/// One of them, while it is held.
pub(super) struct Reader(Readers);

impl Readers {
    pub(super) fn begin(&self) -> Reader {
        self.0.fetch_add(1, Relaxed);
        Reader(self.clone())
    }
}

impl Reader {
    /// How much it may read ahead now.
    pub(super) fn ahead(&self) -> Ahead {
        share(self.0.0.load(Relaxed))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

fn share(readers: usize) -> Ahead {
    let of = |together: usize, least: usize, most: usize| (together / readers.max(1)).clamp(least, most);
    Ahead { events: of(TOGETHER.events, LEAST.events, MOST.events), bytes: of(TOGETHER.bytes, LEAST.bytes, MOST.bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_read_the_less_each_holds() {
        let readers = Readers::default();
        let alone = readers.begin();
        assert_eq!(alone.ahead(), MOST);
        let others: Vec<Reader> = (1..1024).map(|_| readers.begin()).collect();
        assert_eq!(alone.ahead(), Ahead { events: 64, bytes: 128 * 1024 });
        drop(others);
        assert_eq!(alone.ahead(), MOST, "who leaves makes room");
        for count in [1, 100, 1_000, 8_000, 20_000, 1_000_000] {
            let each = share(count);
            assert!(each.bytes * count <= TOGETHER.bytes || each.bytes == LEAST.bytes, "{count}: {each:?}");
        }
        assert_eq!(share(usize::MAX), LEAST);
    }
}
