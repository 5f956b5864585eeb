//! What a group lost: events that were dropped before it had settled them, because their queue was full or the group was
//! away for too long. Each is counted, and where they were is remembered, the latest ranges of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Ledger, Record, State, expired::Expired};

/// Ranges that are remembered, a group and partition; of more, the oldest are forgotten, and stay counted.
const RANGES: usize = 64;

/// Of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    total: u64,
    /// The first position, and the first one after; in the order of their loss.
    ranges: VecDeque<(u64, u64)>,
    /// Since they were last taken.
    #[serde(skip)]
    new: u64,
    #[serde(skip)]
    pub(super) changed: bool,
    /// Stored along with it.
    #[serde(default)]
    pub(super) expired: Expired,
}

impl Lost {
    /// How many, ever.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Whether a position is in a range that is remembered.
    pub(super) fn holds(&self, position: u64) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..*to).contains(&position))
    }

    fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        self.total += to - from;
        self.new += to - from;
        self.changed = true;
        match self.ranges.back_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.ranges.push_back((from, to)),
        }
        if self.ranges.len() > RANGES {
            self.ranges.pop_front();
        }
    }

    /// Positions from there on are other events' now.
    pub(super) fn cut(&mut self, cut: u64) {
        self.changed |= self.expired.cut(cut) || self.ranges.iter().any(|(_, to)| *to > cut);
        self.ranges.retain_mut(|(from, to)| {
            *to = (*to).min(cut);
            from < to
        });
    }
}

impl Ledger {
    pub(crate) fn lost(&self) -> &Lost {
        &self.lost
    }

    /// As it was stored.
    pub(crate) fn with_lost(self, lost: Lost) -> Self {
        Self { lost, ..self }
    }

    /// How many were lost since this was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost.new)
    }

    /// Whether what was lost must be stored.
    pub(crate) fn take_lost_changes(&mut self) -> bool {
        std::mem::take(&mut self.lost.changed)
    }

    /// The lowest position that this group needs the log for.
    pub(crate) fn hold(&self) -> u64 {
        let unsettled = self.records.iter().find(|(_, record)| needs_log(record));
        unsettled.map_or(self.next, |(position, _)| (*position).min(self.next))
    }

    /// The log begins with `floor` now: what was unsettled before it is lost, leases included, and the group goes on
    /// from there.
    pub(crate) fn lose(&mut self, floor: u64) {
        let unsettled: Vec<u64> =
            self.records.range(..floor).filter(|(_, record)| needs_log(record)).map(|(at, _)| *at).collect();
        for position in unsettled {
            self.lose_one(position);
        }
        self.lose_next(floor);
    }

    /// The event of a record is gone.
    pub(crate) fn lose_one(&mut self, position: u64) {
        if self.remove(position).is_some() {
            self.lost.add(position, position + 1);
        }
    }

    /// The event of what was just settled is gone, and with it what should be kept of it.
    pub(crate) fn lose_settled(&mut self, position: u64) {
        self.lost.add(position, position + 1);
    }

    /// What was not looked at yet is gone, up to a position.
    pub(crate) fn lose_next(&mut self, to: u64) {
        while self.next < to {
            // What was redriven meanwhile isn't lost.
            let known = self.records.range(self.next..to).next().map(|(position, _)| *position);
            self.lost.add(self.next, known.unwrap_or(to));
            self.next = known.map_or(to, |known| known + 1);
            self.moved = true;
        }
    }

    /// The log began anew: its positions mean other events.
    pub(crate) fn forget_lost_ranges(&mut self) {
        self.lost.cut(0);
    }
}

/// Dead letters, also those that are with their group again, have their events with them.
fn needs_log(record: &Record) -> bool {
    record.redrive == 0 && record.state != State::Dead
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Mode;

    #[test]
    fn what_lies_below_the_floor_is_lost_and_told_exactly() {
        let mut ledger = Ledger::new(Mode::Keyed, 1);
        for key in [7, 8, 7, 9] {
            ledger.take(key);
        }
        let member: Arc<str> = "m".into();
        ledger.lease(1, &member, 1, 0, 30);
        ledger.lease(2, &member, 2, 0, 30);
        ledger.settle(2, 2, crate::Verb::Ack, 1, 30, 0.0).unwrap();
        assert_eq!(ledger.hold(), 1);
        ledger.lose(3);
        assert_eq!((ledger.lost().ranges().collect::<Vec<_>>(), ledger.take_lost()), (vec![(1, 2)], 1));
        assert_eq!((ledger.hold(), ledger.held("m"), ledger.first_ready()), (3, 0, Some(3)), "its key goes on");
        ledger.lose(9);
        assert_eq!(ledger.lost().ranges().collect::<Vec<_>>(), [(1, 2), (3, 9)]);
        assert_eq!((ledger.lost().total(), ledger.take_lost(), ledger.next(), ledger.unsettled()), (7, 6, 9, 0));
        ledger.rewind(5);
        assert_eq!(ledger.lost().ranges().collect::<Vec<_>>(), [(1, 2), (3, 5)], "5 is another event now");
    }

    #[test]
    fn a_redriven_letter_is_not_lost_and_holds_nothing() {
        let mut ledger = Ledger::new(Mode::Parallel, 5);
        ledger.redrive(2, 7, 1, 0);
        ledger.redrive(6, 7, 1, 0);
        assert_eq!(ledger.hold(), 5);
        ledger.lose(9);
        assert_eq!(ledger.lost().ranges().collect::<Vec<_>>(), [(5, 6), (7, 9)]);
        assert_eq!((ledger.unsettled(), ledger.next()), (2, 9));
    }

    #[test]
    fn the_oldest_ranges_are_forgotten_and_stay_counted() {
        let mut lost = Lost::default();
        for at in 0..100 {
            lost.add(3 * at, 3 * at + 1);
        }
        assert_eq!((lost.total(), lost.ranges.len(), lost.holds(0), lost.holds(297)), (100, RANGES, false, true));
    }
}
