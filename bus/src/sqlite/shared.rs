//! What the writer thread shows to everyone else: the partitions' views, and wake-ups.

use std::{collections::HashMap, sync::Arc};

use events::Name;
use parking_lot::RwLock;

use super::{log::View, owned::QueueState};
use crate::{Queue, wakes::Wakes};

/// A partition as readers know it.
#[derive(Clone)]
pub(super) struct Partition {
    pub(super) id: i64,
    /// Each key's last event is known.
    pub(super) latest: bool,
    pub(super) view: Arc<RwLock<View>>,
}

#[derive(Default)]
pub(super) struct Shared {
    partitions: RwLock<HashMap<Name, Vec<Partition>>>,
    settings: RwLock<HashMap<Name, Queue>>,
    pub(super) wakes: Wakes,
}

impl Shared {
    pub(super) fn partition(&self, queue: &Name, number: u32) -> Option<Partition> {
        self.partitions.read().get(queue)?.get(number as usize).cloned()
    }

    /// How many partitions a queue has, if it is there.
    pub(super) fn count(&self, queue: &Name) -> Option<u32> {
        self.partitions.read().get(queue).map(|partitions| u32::try_from(partitions.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn settings(&self, queue: &Name) -> Option<Queue> {
        self.settings.read().get(queue).cloned()
    }

    pub(super) fn replace(&self, queues: &HashMap<Name, QueueState>) {
        *self.settings.write() = queues.iter().map(|(name, queue)| (name.clone(), queue.settings.clone())).collect();
        *self.partitions.write() = queues.iter().map(|(name, queue)| (name.clone(), partitions(queue))).collect();
    }

    pub(super) fn show(&self, queue: &QueueState) {
        self.settings.write().insert(queue.settings.name.clone(), queue.settings.clone());
        self.partitions.write().insert(queue.settings.name.clone(), partitions(queue));
    }
}

fn partitions(queue: &QueueState) -> Vec<Partition> {
    queue
        .partitions
        .iter()
        .map(|partition| Partition {
            id: partition.log.id,
            latest: queue.settings.latest,
            view: partition.log.view.clone(),
        })
        .collect()
}
