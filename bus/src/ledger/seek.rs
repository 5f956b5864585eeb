//! Moving a group's place, and telling where an event stands with it.

use events::{Envelope, Filter};

use super::{Ledger, State};
use crate::{Sought, Standing, clock::moment};

impl Ledger {
    /// What [`Ledger::seek`] would do.
    pub(crate) fn sought(&self, to: u64) -> Sought {
        let unsettled = self.records.range(..to).filter(|(_, record)| record.state != State::Dead).count() as u64;
        Sought {
            again: self.next.saturating_sub(to),
            skipped: to.saturating_sub(self.next) + unsettled,
            leases: self.in_flight as u64,
        }
    }

    /// Goes on from another place, without leases and retries. The tokens of the leases must be fenced off besides.
    pub(crate) fn seek(&mut self, to: u64) {
        let start = if self.sought(to).skipped > 0 { to } else { self.start.min(to) };
        let changed = self.records.keys().chain(&self.changed).copied().collect();
        let mut lost = std::mem::take(&mut self.lost);
        lost.changed |= lost.expired.cut(to);
        let Self { mode, on_dead, retry, most, .. } = *self;
        *self = Self { on_dead, retry, most, start, changed, lost, ..Self::new(mode, to) };
    }

    /// Goes back to where the log was cut: what it knew of positions from there on is no longer true. Whether it knew of
    /// any.
    pub(crate) fn rewind(&mut self, cut: u64) -> bool {
        let lost: Vec<u64> = self.records.range(cut..).map(|(position, _)| *position).collect();
        for position in lost.iter().rev() {
            self.remove(*position);
        }
        if self.next > cut {
            self.next = cut;
            self.moved = true;
        }
        self.start = self.start.min(cut);
        self.lost.cut(cut);
        !lost.is_empty()
    }

    /// Where an event that is no dead letter stands with the group; `event` is what the log has at the position, if it
    /// still has it.
    pub(crate) fn standing(&self, position: u64, event: Option<&Envelope>, filter: &Filter) -> Standing {
        if let Some(record) = self.records.get(&position) {
            let attempt = record.failures + 1;
            match &record.state {
                State::Ready => return Standing::Pending,
                State::Leased { until, .. } => return Standing::Leased { attempt, until: moment(*until) },
                State::Retrying { at } => return Standing::Retrying { attempt, at: moment(*at) },
                State::Parked => {
                    let behind = self.keys.get(&record.key).map_or(position, |key| key.active);
                    return Standing::Parked { behind };
                }
                // Its letter is gone.
                State::Dead => return Standing::Unknown,
            }
        }
        match event {
            None if self.lost.holds(position) => Standing::Lost,
            None => Standing::Unknown,
            Some(_) if position < self.start => Standing::NotApplicable,
            Some(event) if !filter.matches(event) => Standing::Filtered,
            Some(_) if position >= self.next => Standing::Pending,
            Some(event) if event.expirytime.is_some() => match self.lost.expired.tells(position) {
                Some(true) => Standing::Expired,
                Some(false) => Standing::Acked,
                None => Standing::Unknown,
            },
            Some(_) => Standing::Acked,
        }
    }
}
