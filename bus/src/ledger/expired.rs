//! Which events were settled by their expiry time, not by a member: the log doesn't say it, and an event that was
//! acknowledged in time looks the same afterwards. The latest ranges are remembered; of an older one nobody can tell.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Ledger;

/// Ranges that are remembered, a group and partition.
const RANGES: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Expired {
    /// The first position, and the first one after; in the order in which they were found.
    ranges: VecDeque<(u64, u64)>,
    /// Below it there were others, which are forgotten.
    #[serde(default)]
    forgotten: u64,
}

impl Expired {
    fn add(&mut self, position: u64) {
        match self.ranges.back_mut() {
            Some((_, end)) if *end == position => *end += 1,
            _ => self.ranges.push_back((position, position + 1)),
        }
        if self.ranges.len() > RANGES
            && let Some((_, end)) = self.ranges.pop_front()
        {
            self.forgotten = self.forgotten.max(end);
        }
    }

    /// Whether a settled event expired; None: nobody can tell any more.
    pub(super) fn tells(&self, position: u64) -> Option<bool> {
        match self.ranges.iter().any(|(from, to)| (*from..*to).contains(&position)) {
            true => Some(true),
            false => (position >= self.forgotten).then_some(false),
        }
    }

    /// Positions from there on are still to be settled, or other events' now. Whether that was news.
    pub(super) fn cut(&mut self, cut: u64) -> bool {
        let before = (self.ranges.len(), self.forgotten);
        let cuts = self.ranges.iter().any(|(_, to)| *to > cut);
        self.ranges.retain_mut(|(from, to)| {
            *to = (*to).min(cut);
            from < to
        });
        self.forgotten = self.forgotten.min(cut);
        cuts || before != (self.ranges.len(), self.forgotten)
    }
}

impl Ledger {
    /// Passes over the event at `next`: its time is over.
    pub(crate) fn pass_expired(&mut self) {
        self.expired(self.next);
        self.pass();
    }

    /// Settles an event that is ready without delivering it: its time is over.
    pub(crate) fn drop_expired(&mut self, position: u64) {
        self.expired(position);
        self.remove(position);
    }

    fn expired(&mut self, position: u64) {
        self.lost.expired.add(position);
        self.lost.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_told_as_acknowledged() {
        let mut expired = Expired::default();
        for at in 0..70 {
            expired.add(10 * at + 5);
            expired.add(10 * at + 6);
        }
        assert_eq!((expired.tells(695), expired.tells(696), expired.tells(697)), (Some(true), Some(true), Some(false)));
        assert_eq!((expired.ranges.len(), expired.tells(5), expired.tells(56)), (RANGES, None, None));
        assert_eq!((expired.tells(57), expired.tells(66)), (Some(false), Some(true)));
        assert!(expired.cut(66) && !expired.cut(66));
        assert_eq!((expired.tells(65), expired.tells(66)), (Some(true), Some(false)));
    }
}
