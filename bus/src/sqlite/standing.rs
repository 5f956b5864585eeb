//! Where an event stands with each group: derived from their ledgers, their dead letters and the log.

use std::collections::BTreeMap;

use events::Name;

use super::{
    dead,
    owned::{GroupState, Owned, PartitionState},
};
use crate::Standing;

impl Owned {
    pub(super) fn standing(
        &self,
        queue: &Name,
        partition: u32,
        position: u64,
    ) -> rusqlite::Result<BTreeMap<String, Standing>> {
        let number = partition as usize;
        let Some(partition) = self.queues.get(queue).and_then(|queue| queue.partitions.get(number)) else {
            return Ok(BTreeMap::new());
        };
        self.groups
            .values()
            .filter(|group| group.group.filter.queue == *queue)
            .map(|group| Ok((group.group.name.clone(), self.stands(group, number, partition, position)?)))
            .collect()
    }

    fn stands(
        &self,
        group: &GroupState,
        number: usize,
        partition: &PartitionState,
        position: u64,
    ) -> rusqlite::Result<Standing> {
        let Some(ledger) = group.ledgers.get(number) else { return Ok(Standing::Unknown) };
        if !ledger.holds(position)
            && let Some(dead) = dead::standing(&self.conn, group.id, partition.log.id, position)?
        {
            return Ok(dead);
        }
        // What was trimmed may still be in memory.
        let entry = partition.log.get(&self.conn, position)?.filter(|_| position >= partition.log.floor);
        Ok(ledger.standing(position, entry.as_ref().map(|entry| entry.envelope.as_ref()), &group.group.filter))
    }
}
