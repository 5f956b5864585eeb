//! Leasing: what is ready first, then what is new.

use std::sync::Arc;

use super::{Ledger, Record, State};
use crate::Mode;

/// Who leases, for how long.
pub(crate) struct Lessee {
    /// Leases it holds of the group, over all partitions.
    pub(crate) held: usize,
    /// One of them is of a suspect.
    pub(crate) holds_suspect: bool,
    /// Of the leases of this partition, those of this very claim.
    pub(crate) of_this_claim: usize,
}

/// What may be leased of a partition now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Nothing,
    /// This one, and nothing beside it.
    Suspect(u64),
    /// So many events; of the records in [`Ledger::first_ready`]'s order, then new ones.
    Events(usize),
}

impl Ledger {
    /// What a member may lease. While suspects wait, members finish what they hold and then get one alone: whoever dies
    /// with it tells by that which event it was.
    pub(crate) fn room(&self, lessee: &Lessee) -> Room {
        // An exclusive group's leases shut out everybody, whatever the name: two may go by the same.
        if lessee.holds_suspect || (self.mode == Mode::Exclusive && self.in_flight > lessee.of_this_claim) {
            return Room::Nothing;
        }
        if let Some(suspect) = self.suspects.first() {
            return match lessee.held {
                // An exclusive group must first handle what lies before it.
                0 if self.is_blocked(*suspect) => Room::Events(1),
                0 => Room::Suspect(*suspect),
                _ => Room::Nothing,
            };
        }
        match self.most.saturating_sub(self.in_flight) {
            0 => Room::Nothing,
            room => Room::Events(room),
        }
    }

    /// The lowest event that is ready.
    pub(crate) fn first_ready(&self) -> Option<u64> {
        self.ready.first().copied().filter(|position| !self.is_blocked(*position))
    }

    /// Whether new events may be taken: not beyond what a group may leave unsettled, nor past an event that an exclusive
    /// group must handle first.
    pub(crate) fn takes_new(&self) -> bool {
        !self.is_full() && !self.is_blocked(self.next)
    }

    fn is_blocked(&self, position: u64) -> bool {
        self.mode == Mode::Exclusive
            && self.records.range(..position).any(|(_, record)| !matches!(record.state, State::Leased { .. }))
    }

    /// Passes over the event at `next`: it isn't this group's.
    pub(crate) fn pass(&mut self) {
        self.next += 1;
        self.moved = true;
    }

    /// Takes the event at `next` in; whether it is ready, and not parked behind its key.
    pub(crate) fn take(&mut self, key: u64) -> bool {
        let position = self.next;
        self.pass();
        self.insert(position, Record::new(key));
        self.ready.contains(&position)
    }

    /// Leases an event that is ready.
    pub(crate) fn lease(&mut self, position: u64, member: &Arc<str>, secret: u64, now: i64, until: i64) {
        self.update(position, |record| {
            record.state = State::Leased { secret, member: member.clone(), until };
            if record.first_delivered == 0 {
                record.first_delivered = now;
            }
        });
    }
}
