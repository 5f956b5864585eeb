//! Claiming, a partition after the other.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    dead,
    owned::{Answer, Owned, PartitionState},
};
use crate::{
    Claim, Claimed, Error,
    claiming::{Claiming, Entry, SCAN, Source},
    lease::IN_FLIGHT_PER_MEMBER,
    receipt,
};

/// A partition's log, and the dead letters of the group that claims.
struct Rows<'a> {
    conn: &'a Connection,
    partition: &'a PartitionState,
    group: i64,
}

impl Source for Rows<'_> {
    type Error = rusqlite::Error;

    fn next(&self) -> u64 {
        self.partition.log.next
    }

    fn page(&mut self, from: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
        self.partition.log.read(self.conn, from, limit)
    }

    fn get(&mut self, position: u64) -> rusqlite::Result<Option<Entry>> {
        match self.partition.log.get(self.conn, position)? {
            Some(entry) => Ok(Some(entry)),
            None => dead::envelope(self.conn, self.group, self.partition.log.id, position),
        }
    }

    fn forget(&mut self, position: u64) -> rusqlite::Result<()> {
        dead::forget(self.conn, self.group, self.partition.log.id, position).map(drop)
    }
}

impl Owned {
    pub(super) fn claim(&mut self, claim: &Claim, now: i64) -> Answer<Claimed> {
        let Some(group) = self.groups.get_mut(&claim.group) else {
            return Ok(Err(Error::NoGroup(claim.group.clone())));
        };
        let Some(queue) = self.queues.get(&group.group.filter.queue) else {
            return Ok(Err(Error::NoQueue(group.group.filter.queue.to_string())));
        };
        group.show(&self.conn, queue.settings.max_age, now)?;
        let member: Arc<str> = claim.member.as_str().into();
        let held = group.held(&member);
        let mut claiming = Claiming {
            rng: &mut self.rng,
            filter: &group.group.filter,
            generation: group.generation,
            takes_expired: receipt::is_receipts(&group.group.name),
            now,
            until: now + i64::try_from(group.group.lease.as_millis()).unwrap_or(i64::MAX / 2),
            events: claim.max.min(IN_FLIGHT_PER_MEMBER.saturating_sub(held)),
            bytes: claim.bytes.max(1),
            scan: SCAN,
            member: member.clone(),
            claimed: Claimed::default(),
            at_end: false,
            outcomes: Vec::new(),
        };
        let count = group.ledgers.len();
        for turn in 0..count {
            let number = (group.turn + turn) % count;
            let Some(partition) = queue.partitions.get(number) else { continue };
            let held = group.ledgers.iter().map(|ledger| ledger.held(&member)).sum();
            let holds_suspect = group.ledgers.iter().any(|ledger| ledger.holds_suspect(&member));
            let mut rows = Rows { conn: &self.conn, partition, group: group.id };
            let ledger = &mut group.ledgers[number];
            claiming.partition(u32::try_from(number).unwrap_or(u32::MAX), &mut rows, ledger, held, holds_suspect)?;
        }
        group.turn = group.turn.wrapping_add(1);
        claiming.outcomes.iter().for_each(|outcome| group.labels.outcome(outcome));
        claiming.claimed.more |= !claiming.has_room();
        Ok(Ok(claiming.claimed))
    }
}
