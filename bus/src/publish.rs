//! Publishing: what may be asked of it and what it answers.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{Confirm, Fence, Refused};

/// A relay that numbers what it publishes instead of relying on the dedupe window.
///
/// Numbers are dense a producer, queue and partition. The bus takes the next one only; one it has is answered as a
/// duplicate, and any first one is taken while it knows none (at the start, or after a reset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Names the outbox: one database's, for ever.
    pub outbox: String,
    /// The number of the batch's first event; the next ones follow without a gap.
    pub first_publish_no: u64,
}

/// How to publish. The default is what a client without numbers wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    pub confirm: Confirm,
    /// How long a level beyond `stored` is waited for once the event is recorded; 10 s by default. Where that isn't
    /// enough, [`Recorded::confirmed`] is the level reached.
    pub patience: Duration,
    /// Take what the bus can give where that is less; otherwise such a publish is refused before anything is recorded
    /// ([`crate::Error::NotGiven`]).
    pub allow_degraded: bool,
    /// All events must fall into one queue and partition ([`crate::Bus::partition`]) where this is set.
    pub producer: Option<Producer>,
    /// Refuse ([`Refused::LineageChanged`]) where the partition's lineage is another one.
    pub expect_lineage: Option<u64>,
    /// Refuse ([`Refused::Fenced`]) where a later number of this lease was seen ([`crate::Bus::lead`]).
    pub fence: Option<Fence>,
}

impl Default for PublishOptions {
    /// `stored`, without numbers, whatever the lineage.
    fn default() -> Self {
        Self {
            confirm: Confirm::Stored,
            patience: Duration::from_secs(10),
            allow_degraded: false,
            producer: None,
            expect_lineage: None,
            fence: None,
        }
    }
}

/// Where an event was recorded, or when it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub partition: u32,
    /// The lineage its position belongs to. Fits an i64.
    pub lineage: u64,
    /// None for an event that is not due yet, and for a duplicate so old that its place is no longer known.
    pub position: Option<u64>,
    /// When it will be recorded; None where it is.
    pub due: Option<OffsetDateTime>,
    /// It had been recorded before; `position` is the original one.
    pub duplicate: bool,
    /// The level that was reached: the one asked for, unless it couldn't be given or took too long.
    pub confirmed: Confirm,
}

/// What became of each event, in the order they were given.
pub type Outcome = Result<Recorded, Refused>;

/// Where a key's events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: u32,
    /// How many the queue has.
    pub count: u32,
}

impl Partition {
    /// The partition of a key: stable over versions and backends (FNV-1a, 64 bit, folded).
    pub fn of(key: &str, count: u32) -> Self {
        let hash = hash(key);
        let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
        let index = u32::try_from(folded % u64::from(count.max(1))).unwrap_or(0);
        Self { index, count }
    }
}

/// FNV-1a: the same in every version, since what it decides is stored.
pub(crate) fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A stretch of a partition's history that one writer's life recorded: positions from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Random; fits an i64.
    pub id: u64,
    pub first: u64,
    /// What it goes on from; None where the log began, or began anew after a reset.
    pub parent: Option<u64>,
}

/// The lineages of a partition, oldest first; none while it holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineages(pub Vec<Lineage>);

impl Lineages {
    pub fn current(&self) -> Option<Lineage> {
        self.0.last().copied()
    }

    /// The first position that is no longer `lineage`'s: what it recorded from there on is lost. None where the lineage
    /// is the current one and so has no end; Some(0) where it is unknown, so that all of it is lost.
    pub fn cut(&self, lineage: u64) -> Option<u64> {
        match self.0.iter().position(|known| known.id == lineage) {
            Some(at) => self.0[at + 1..].iter().map(|later| later.first).min(),
            None => Some(0),
        }
    }

    /// Whether what was recorded at this place is still part of the log's history (it may have been trimmed since).
    pub fn holds(&self, lineage: u64, position: u64) -> bool {
        self.cut(lineage).is_none_or(|cut| position < cut)
    }

    /// The lineage that a position of the log as it is now belongs to.
    pub fn of(&self, position: u64) -> Option<Lineage> {
        self.0.iter().rev().find(|lineage| lineage.first <= position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_partition_over_versions() {
        assert_eq!(Partition::of("products/42", 1).index, 0);
        let spread: std::collections::BTreeSet<u32> =
            (0..100).map(|n| Partition::of(&format!("products/{n}"), 8).index).collect();
        assert_eq!(spread.len(), 8);
        assert_eq!(
            ["", "a", "products/42", "customers/7"].map(|key| Partition::of(key, 64).index),
            GOLDEN,
            "changing this moves every key of every queue"
        );
    }

    const GOLDEN: [u32; 4] = [1, 0, 19, 13];

    #[test]
    fn a_lineage_holds_what_came_before_its_cut() {
        let lineages = Lineages(vec![
            Lineage { id: 1, first: 1, parent: None },
            Lineage { id: 2, first: 11, parent: Some(1) },
            Lineage { id: 3, first: 11, parent: Some(2) },
        ]);
        assert!(lineages.holds(1, 10));
        assert!(!lineages.holds(1, 11), "recorded by the first life, lost at the restart");
        assert!(!lineages.holds(2, 11));
        assert!(lineages.holds(3, 500));
        assert!(!lineages.holds(9, 1), "an unknown lineage holds nothing");
        assert_eq!(lineages.of(10).map(|l| l.id), Some(1));
        assert_eq!(lineages.of(11).map(|l| l.id), Some(3));
    }
}
