//! Moving a group: fenced by a new generation, so that every lease of the old one is lost.

use rusqlite::{Connection, params};

use super::{
    log::Log,
    owned::{Answer, Owned},
};
use crate::{Error, Sought, Start, Which, clock::millis};

/// Where a group that starts so begins in a partition.
pub(super) fn position(conn: &Connection, log: &Log, start: Start) -> rusqlite::Result<u64> {
    match start {
        Start::Earliest => Ok(log.floor),
        Start::Latest => Ok(log.next),
        Start::Time(time) => log.position_at(conn, millis(time)),
        Start::Position(position) => Ok(position.clamp(log.floor, log.next)),
    }
}

impl Owned {
    pub(super) fn hurry(&mut self, name: &str, which: &Which) -> Answer<u64> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(Err(Error::NoGroup(name.to_owned())));
        };
        let mut hurried = 0;
        for (number, ledger) in (0..).zip(&mut group.ledgers) {
            hurried += ledger.hurry(|position| which.names(number, position));
        }
        group.woken |= hurried > 0;
        Ok(Ok(hurried))
    }

    pub(super) fn seek(&mut self, name: &str, to: Start, dry_run: bool) -> Answer<Sought> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(Err(Error::NoGroup(name.to_owned())));
        };
        let Some(queue) = self.queues.get(&group.group.filter.queue) else {
            return Ok(Err(Error::NoQueue(group.group.filter.queue.to_string())));
        };
        let mut sought = Sought::default();
        for (ledger, partition) in group.ledgers.iter_mut().zip(&queue.partitions) {
            let next = position(&self.conn, &partition.log, to)?;
            sought += ledger.sought(next);
            if !dry_run {
                ledger.seek(next);
            }
        }
        if !dry_run {
            group.generation = group.generation.wrapping_add(1);
            group.woken = true;
            group.settled = true;
            // A redriven letter that is dropped is a dead letter again.
            self.conn.prepare_cached("UPDATE dead SET redriven = 0 WHERE consumer_group = ?1")?.execute([group.id])?;
            self.conn
                .prepare_cached("UPDATE consumer_group SET generation = ?2 WHERE id = ?1")?
                .execute(params![group.id, group.generation])?;
            tracing::info!(group = name, again = sought.again, skipped = sought.skipped, "group moved");
        }
        Ok(Ok(sought))
    }
}
