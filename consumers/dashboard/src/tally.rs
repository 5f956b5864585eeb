//! The fold: what a queue's events come to. It knows no database and no clock.

use std::collections::BTreeMap;

use bus::{Gap, GapReason};
use events::Name;
use serde::{Deserialize, Serialize};

/// The most event names of a queue that are told apart. Anyone who may publish can make up names.
pub(crate) const MOST_NAMES: usize = 256;

/// What a queue's events come to, up to the cursor it is kept with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub events: BTreeMap<Name, u64>,
    /// Events of further names.
    pub others: u64,
    pub missing: BTreeMap<Reason, Missing>,
}

/// Why events couldn't be counted, or were counted and then lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Trimmed before the queue was first looked at.
    Before,
    Retention,
    Lineage,
    Reset,
    Unreadable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub gaps: u64,
    /// Of the gaps whose size is known.
    pub events: u64,
    /// How many gaps nobody can tell the size of.
    pub unknown: u64,
}

impl Tally {
    /// Counts an event; false: together with others, since its name is beyond the most.
    pub fn count(&mut self, event: &Name) -> bool {
        if let Some(count) = self.events.get_mut(event) {
            *count += 1;
            return true;
        }
        if self.events.len() < MOST_NAMES {
            self.events.insert(event.clone(), 1);
            return true;
        }
        self.others += 1;
        false
    }

    pub fn gap(&mut self, gap: &Gap) {
        self.miss(Reason::from(gap.reason), gap.lost);
    }

    /// Notes that so many events are missing; None: nobody can tell how many.
    pub fn miss(&mut self, reason: Reason, lost: Option<u64>) {
        let missing = self.missing.entry(reason).or_default();
        missing.gaps += 1;
        match lost {
            Some(lost) => missing.events += lost,
            None => missing.unknown += 1,
        }
    }

    /// All events that were counted.
    pub fn total(&self) -> u64 {
        self.events.values().sum::<u64>() + self.others
    }

    /// Grows with every step of the fold: of two tallies of one queue, the one with more is further.
    pub fn progress(&self) -> u64 {
        self.total() + self.missing.values().map(|missing| missing.gaps).sum::<u64>()
    }
}

impl From<GapReason> for Reason {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::Retention => Self::Retention,
            GapReason::Lineage => Self::Lineage,
            GapReason::Reset => Self::Reset,
            GapReason::Unreadable => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    #[test]
    fn names_beyond_the_most_are_counted_together() {
        let mut tally = Tally::default();
        for number in 0..MOST_NAMES + 10 {
            tally.count(&name(&format!("E{number}")));
        }
        assert_eq!((tally.events.len(), tally.others), (MOST_NAMES, 10));
        assert!(tally.count(&name("E0")));
        assert_eq!(tally.events[&name("E0")], 2);
        assert_eq!(tally.total(), MOST_NAMES as u64 + 11);
    }

    #[test]
    fn a_gap_is_told_by_its_reason() {
        let mut tally = Tally::default();
        let gap = |lost, reason| Gap { partition: 0, from: 1, to: 5, lost, reason };
        tally.gap(&gap(Some(4), GapReason::Retention));
        tally.gap(&gap(Some(2), GapReason::Retention));
        tally.gap(&gap(None, GapReason::Reset));
        assert_eq!(tally.missing[&Reason::Retention], Missing { gaps: 2, events: 6, unknown: 0 });
        assert_eq!(tally.missing[&Reason::Reset], Missing { gaps: 1, events: 0, unknown: 1 });
        assert_eq!((tally.total(), tally.progress()), (0, 3));
    }

    proptest! {
        /// Stopped anywhere, kept, read and gone on with, it comes to the same.
        #[test]
        fn a_fold_survives_being_kept(events in prop::collection::vec(0..40_u8, 0..300), at in 0..300_usize) {
            let names: Vec<Name> = events.iter().map(|event| name(&format!("E{event}"))).collect();
            let mut whole = Tally::default();
            for name in &names {
                whole.count(name);
            }

            let (before, after) = names.split_at(at.min(names.len()));
            let mut halves = Tally::default();
            for name in before {
                halves.count(name);
            }
            let mut halves: Tally = serde_json::from_str(&serde_json::to_string(&halves).unwrap()).unwrap();
            let progress = halves.progress();
            for name in after {
                halves.count(name);
            }
            prop_assert_eq!(halves.progress() - progress, after.len() as u64);
            prop_assert_eq!(halves, whole);
        }
    }
}
