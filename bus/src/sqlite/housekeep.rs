//! What is done from time to time, a bounded piece at a time: trimming the log, forgetting old dead letters, gauges.

use super::{dead, owned::Owned};

/// Milliseconds between passes, and between passes while one left something to do.
const PAUSE: i64 = 5_000;
const PAUSE_WHILE_BUSY: i64 = 50;
/// Events trimmed a pass and partition.
const TRIM: u64 = 1000;

impl Owned {
    pub(super) fn housekeep(&mut self, now: i64) -> rusqlite::Result<()> {
        if now < self.housekeeping_due {
            return Ok(());
        }
        let busy = self.trim(now)?;
        dead::forget_old(&self.conn, now)?;
        for status in self.group_statuses()? {
            if let Some(group) = self.groups.get(&status.name) {
                let dead_since = if status.dead > 0 { dead::oldest(&self.conn, group.id)? } else { None };
                group.labels.gauges(&status, dead_since);
            }
        }
        self.housekeeping_due = now + if busy { PAUSE_WHILE_BUSY } else { PAUSE };
        Ok(())
    }

    /// Deletes what is older than its queue keeps, but nothing that a group has not settled; whether more is left.
    fn trim(&mut self, now: i64) -> rusqlite::Result<bool> {
        let mut busy = false;
        for (name, queue) in &mut self.queues {
            let max_age = i64::try_from(queue.settings.max_age.as_millis()).unwrap_or(i64::MAX);
            for (number, partition) in queue.partitions.iter_mut().enumerate() {
                let groups = self.groups.values().filter(|group| group.group.filter.queue == *name);
                let keep = groups.filter_map(|group| Some(group.ledgers.get(number)?.lowest())).min();
                let keep = keep.unwrap_or(u64::MAX);
                let trimmed = partition.log.trim(&self.conn, now.saturating_sub(max_age), keep, TRIM)?;
                busy |= trimmed == TRIM;
            }
        }
        Ok(busy)
    }
}
