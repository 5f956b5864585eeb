//! How many events may be on their way to a client unacknowledged, and which those are.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
};

/// So many that were told are remembered without asking for room again.
const FEW: usize = 16;

/// A subscription's credit. An acknowledgement names a cursor and counts for all before it.
pub(super) struct Credit {
    most: usize,
    /// What was told and not acknowledged, oldest first: its cursor, hashed, and whether it was an event.
    told: VecDeque<(u64, bool)>,
    unacknowledged: usize,
    /// The cursor acknowledged last, since saying so twice is no mistake.
    acknowledged: u64,
    hasher: RandomState,
}

/// It was not told, or was acknowledged before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotTold;

impl Credit {
    /// `cursor` is where the subscription begins.
    pub(super) fn new(most: usize, cursor: &str) -> Self {
        let hasher = RandomState::new();
        let acknowledged = hasher.hash_one(cursor);
        Self { most, told: VecDeque::new(), unacknowledged: 0, acknowledged, hasher }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn is_spent(&self) -> bool {
        self.unacknowledged >= self.most
    }

    /// Counts what is sent.
    pub(super) fn told(&mut self, cursor: &str, event: bool) {
        let cursor = self.hasher.hash_one(cursor);
        match self.told.back_mut() {
            // What is no event costs nothing, and one of them is enough to remember: it stands for those before it.
            Some(last) if !event && !last.1 => last.0 = cursor,
            _ => self.told.push_back((cursor, event)),
        }
        self.unacknowledged += usize::from(event);
    }

    /// Returns the credit of everything up to this cursor.
    pub(super) fn acknowledge(&mut self, cursor: &str) -> Result<(), NotTold> {
        let cursor = self.hasher.hash_one(cursor);
        // The newest of that cursor: what tells the same place again is acknowledged with it.
        let Some(at) = self.told.iter().rposition(|(told, _)| *told == cursor) else {
            return if cursor == self.acknowledged { Ok(()) } else { Err(NotTold) };
        };
        self.unacknowledged -= self.told.drain(..=at).filter(|(_, event)| *event).count();
        self.acknowledged = cursor;
        if self.told.is_empty() {
            self.told.shrink_to(FEW);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_counts_for_all_before_it() {
        let mut credit = Credit::new(3, "0");
        for cursor in ["1", "2", "3"] {
            assert!(!credit.is_spent());
            credit.told(cursor, true);
        }
        assert!(credit.is_spent());
        assert_eq!(credit.acknowledge("4"), Err(NotTold));
        assert_eq!(credit.acknowledge("2"), Ok(()));
        assert_eq!(credit.unacknowledged, 1);
        assert_eq!(credit.acknowledge("2"), Ok(()), "again");
        assert_eq!(credit.acknowledge("1"), Err(NotTold), "long gone");
        assert_eq!(credit.unacknowledged, 1);
    }

    #[test]
    fn what_is_no_event_costs_nothing_and_is_not_kept_for_ever() {
        let mut credit = Credit::new(1, "0");
        for cursor in 0..1_000 {
            credit.told(&cursor.to_string(), false);
        }
        assert_eq!(credit.told.len(), 1);
        assert!(!credit.is_spent());
        credit.told("event", true);
        credit.told("event", false);
        assert!(credit.is_spent());
        assert_eq!(credit.acknowledge("event"), Ok(()));
        assert!(credit.told.is_empty() && !credit.is_spent());
    }
}
