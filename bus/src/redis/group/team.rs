//! The keepers of a group: one a partition, started when first asked.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use events::Name;
use parking_lot::Mutex;

use super::{super::shared::Shared, desk::Desk, holders::Holders, keeper::Keeper};
use crate::{Error, Group};

/// The groups that this process has asked something of.
#[derive(Default)]
pub(in crate::redis) struct Teams(Mutex<HashMap<String, Arc<Shifts>>>);

#[derive(Default)]
struct Shifts {
    keepers: Mutex<Vec<Keeper>>,
    holders: Arc<Holders>,
    /// The partition that the next claim begins with.
    turn: AtomicUsize,
}

impl Teams {
    /// Nobody keeps a group's state any more.
    pub(in crate::redis) fn dismiss(&self, group: &str) {
        self.0.lock().remove(group);
    }
}

/// A group, and who keeps its state of each partition.
pub(super) struct Team {
    pub(super) group: Arc<Group>,
    pub(super) keepers: Vec<Keeper>,
    shifts: Arc<Shifts>,
}

impl Team {
    /// # Errors
    /// [`Error::NoGroup`], or if Redis is away.
    pub(super) async fn of(shared: &Arc<Shared>, name: &str) -> Result<Self, Error> {
        let group = shared.find_group(name).await?.ok_or_else(|| Error::NoGroup(name.to_owned()))?;
        let partitions = shared.ensure_queue(&group.filter.queue).await?.partitions;
        let shifts = shared.teams.0.lock().entry(name.to_owned()).or_default().clone();
        let keepers = shifts.keepers(shared, name, &group.filter.queue, partitions);
        Ok(Self { group, keepers, shifts })
    }

    /// The partitions in the order of this turn: each begins with the next one.
    pub(super) fn turns(&self) -> impl Iterator<Item = &Keeper> {
        let first = self.shifts.turn.fetch_add(1, Ordering::Relaxed) % self.keepers.len().max(1);
        self.keepers[first..].iter().chain(&self.keepers[..first])
    }

    /// With their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &Keeper)> {
        (0..).zip(&self.keepers)
    }
}

impl Shifts {
    fn keepers(&self, shared: &Arc<Shared>, group: &str, queue: &Name, partitions: u32) -> Vec<Keeper> {
        let mut keepers = self.keepers.lock();
        for partition in u32::try_from(keepers.len()).unwrap_or(u32::MAX)..partitions {
            let keys = shared.keys().group_keys(queue, partition, group);
            let desk = Desk::new(group, shared.place(queue, partition), keys, self.holders.clone());
            keepers.push(Keeper::start(shared, desk));
        }
        keepers.iter().take(partitions as usize).cloned().collect()
    }
}
