//! Settling deliveries, by their members and by time.

use rand::Rng as _;
use rusqlite::Connection;

use std::collections::HashMap;

use super::{
    dead,
    owned::{Answer, GroupState, Owned, PartitionState},
};
use crate::{Error, LeaseLost, Settlement, Verb, ledger::Fate};

impl Owned {
    pub(super) fn settle(
        &mut self,
        name: &str,
        settlements: Vec<Settlement>,
        now: i64,
    ) -> Answer<Vec<Result<(), LeaseLost>>> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(Err(Error::NoGroup(name.to_owned())));
        };
        let Some(queue) = self.queues.get(&group.group.filter.queue) else {
            return Ok(Err(Error::NoQueue(group.group.filter.queue.to_string())));
        };
        group.show(&self.conn, queue.settings.max_age, now)?;
        let until = now + i64::try_from(group.group.lease.as_millis()).unwrap_or(i64::MAX / 2);
        let mut outcomes = Vec::with_capacity(settlements.len());
        for Settlement { token, verb } in settlements {
            let number = token.partition as usize;
            let (Some(partition), Some(ledger)) = (queue.partitions.get(number), group.ledgers.get_mut(number)) else {
                outcomes.push(Err(LeaseLost));
                continue;
            };
            if token.generation != group.generation {
                outcomes.push(Err(LeaseLost));
                continue;
            }
            let acked = verb == Verb::Ack;
            let redriven = ledger.record(token.position).is_some_and(|record| record.redrive > 0);
            match ledger.settle(token.position, token.secret, verb, now, until, self.rng.random()) {
                Ok(fate) => {
                    if acked && redriven {
                        dead::forget(&self.conn, group.id, partition.log.id, token.position)?;
                    }
                    conclude(&self.conn, group, partition, token.position, fate, now)?;
                    outcomes.push(Ok(()));
                }
                Err(lost) => {
                    group.labels.outcome("stale");
                    outcomes.push(Err(lost));
                }
            }
        }
        Ok(Ok(outcomes))
    }

    /// Ends the leases and delays whose time has come.
    pub(super) fn expire(&mut self, now: i64) -> rusqlite::Result<()> {
        let Self { conn, rng, queues, groups, .. } = self;
        for group in groups.values_mut() {
            if group.ledgers.iter().filter_map(|ledger| ledger.next_due()).all(|due| due > now) {
                continue;
            }
            let Some(queue) = queues.get(&group.group.filter.queue) else { continue };
            // As it was before any of them ended.
            let mut held: HashMap<String, usize> = HashMap::new();
            for (member, leases) in group.ledgers.iter().flat_map(|ledger| ledger.holders()) {
                *held.entry(member.to_owned()).or_default() += leases;
            }
            group.woken = true;
            for number in 0..group.ledgers.len() {
                let Some(partition) = queue.partitions.get(number) else { continue };
                let holds = |member: &str| held.get(member).copied().unwrap_or(0);
                for (position, fate) in group.ledgers[number].expire(now, holds, || rng.random()) {
                    group.labels.lease_expired();
                    conclude(conn, group, partition, position, fate, now)?;
                }
            }
        }
        Ok(())
    }
}

fn conclude(
    conn: &Connection,
    group: &mut GroupState,
    partition: &PartitionState,
    position: u64,
    fate: Fate,
    now: i64,
) -> rusqlite::Result<()> {
    let outcome = match fate {
        Fate::Extended => return Ok(()),
        Fate::Acked => "acked",
        Fate::Released => "released",
        Fate::Retrying => "retried",
        Fate::Deferred => "deferred",
        Fate::Dead { reason, error, record } => {
            tracing::warn!(
                group = group.group.name,
                queue = %group.group.filter.queue, position,
                reason,
                error,
                "dead letter"
            );
            (group.deaths.count, group.deaths.is_new) = (group.deaths.count + 1, true);
            dead::bury(conn, group.id, &partition.log, position, &dead::Burial { reason, error, record, now })?;
            "dead"
        }
    };
    group.woken = true;
    group.settled = true;
    group.labels.outcome(outcome);
    Ok(())
}
