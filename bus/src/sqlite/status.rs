//! What the bus tells of its queues and groups.

use super::{
    dead,
    owned::{GroupState, Owned},
};
use crate::{GroupStatus, LostRange, PartitionStatus, QueueStatus, clock::moment};

impl Owned {
    pub(super) fn queue_statuses(&self) -> Vec<QueueStatus> {
        let mut statuses: Vec<QueueStatus> = self
            .queues
            .values()
            .map(|queue| QueueStatus {
                settings: queue.settings.clone(),
                partitions: queue
                    .partitions
                    .iter()
                    .map(|partition| PartitionStatus {
                        floor: partition.log.floor,
                        next: partition.log.next,
                        bytes: partition.log.bytes,
                        lineage: partition.log.lineages.current().map_or(0, |lineage| lineage.id),
                        scheduled: partition.waiting.count as u64,
                        dedupe_cut_short: partition.dedupe.cut_short(),
                    })
                    .collect(),
            })
            .collect();
        statuses.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
        statuses
    }

    pub(super) fn group_statuses(&self) -> rusqlite::Result<Vec<GroupStatus>> {
        self.groups.values().map(|group| self.group_status(group)).collect()
    }

    fn group_status(&self, group: &GroupState) -> rusqlite::Result<GroupStatus> {
        let mut status = GroupStatus::of(&group.group);
        status.dead = dead::count(&self.conn, group.id)?;
        status.abandoned = group.abandoned.map(moment);
        let partitions = self.queues.get(&group.group.filter.queue).map_or(&[][..], |queue| &queue.partitions);
        for (number, (ledger, partition)) in (0..).zip(group.ledgers.iter().zip(partitions)) {
            let (retrying, parked) = ledger.retrying_and_parked();
            status.lag += partition.log.next.saturating_sub(ledger.next()) + ledger.unsettled() as u64;
            status.in_flight += ledger.in_flight() as u64;
            status.retrying += retrying;
            status.parked += parked;
            status.blocked += ledger.blocked() as u64;
            status.blocked_by_key |= ledger.is_full();
            status.next.push(ledger.next());
            status.lost += ledger.lost().total();
            let ranges = ledger.lost().ranges();
            status.lost_ranges.extend(ranges.map(|(from, to)| LostRange { partition: number, from, to }));
            if let Some(entry) = partition.log.read(&self.conn, ledger.lowest(), 1)?.first() {
                let recorded = moment(entry.recorded);
                status.oldest = Some(status.oldest.map_or(recorded, |oldest| oldest.min(recorded)));
            }
        }
        Ok(status)
    }
}
