//! Whether a group's members are there. A group that nobody claims for, for as long as its queue keeps events, loses its
//! hold on the log (`lua/floor.lua`); so when they last asked for something is written down, but not each time.

use std::time::Duration;

use events::Name;

use super::super::shared::Shared;
use crate::Error;

/// The longest time, in milliseconds, after which it is written down again.
const EVERY: i64 = 60_000;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Presence {
    /// When a member last asked for something, about; in milliseconds since 1970, 0: nobody knows.
    pub(super) claimed: i64,
    /// When the group lost its hold.
    pub(super) abandoned: Option<i64>,
    changed: bool,
}

impl Presence {
    /// A member asks for something. `every`: how often that is written down.
    pub(super) fn show(&mut self, now: i64, every: i64) {
        if self.abandoned.is_some() || now - self.claimed >= every {
            *self = Self { claimed: now, abandoned: None, changed: true };
        }
    }

    /// What must be stored, if anything: when a member asked last. The group is not abandoned then.
    pub(super) fn take_change(&mut self) -> Option<i64> {
        std::mem::take(&mut self.changed).then_some(self.claimed)
    }
}

/// How often it is written down for a queue's groups, in milliseconds: much more often than a group may be away.
pub(super) async fn every(shared: &Shared, queue: &Name) -> Result<i64, Error> {
    let max_age = shared.find_queue(queue).await?.map_or(Duration::MAX, |queue| queue.max_age);
    Ok(i64::try_from(max_age.as_millis() / 8).unwrap_or(i64::MAX).min(EVERY))
}
