//! Claiming: a member's leases on what is ready, then on what is new, a partition after the other.

use std::sync::Arc;

use rand::{Rng as _, rngs::StdRng};
use rusqlite::Connection;

use super::{
    dead,
    log::Entry,
    owned::{Answer, Owned, PartitionState},
};
use crate::{
    Claim, Claimed, Error, Leased, Token,
    clock::{millis, moment},
    lease::IN_FLIGHT_PER_MEMBER,
    ledger::{Ledger, Lessee, Room},
    metrics::GroupLabels,
    publish,
};
use events::Filter;

/// Log entries a claim looks at, at most, and at a time: a filter that refuses most mustn't hold up the others.
const SCAN: usize = 2048;
const CHUNK: usize = 64;

/// What stays the same during a claim.
struct Claiming<'a> {
    conn: &'a Connection,
    rng: &'a mut StdRng,
    filter: &'a Filter,
    group: i64,
    generation: u32,
    member: Arc<str>,
    now: i64,
    until: i64,
    labels: &'a GroupLabels,
    events: usize,
    bytes: usize,
    scan: usize,
    claimed: Claimed,
}

impl Owned {
    pub(super) fn claim(&mut self, claim: &Claim, now: i64) -> Answer<Claimed> {
        let Some(group) = self.groups.get_mut(&claim.group) else {
            return Ok(Err(Error::NoGroup(claim.group.clone())));
        };
        let Some(queue) = self.queues.get(&group.group.filter.queue) else {
            return Ok(Err(Error::NoQueue(group.group.filter.queue.to_string())));
        };
        let member: Arc<str> = claim.member.as_str().into();
        let held = group.held(&member);
        let mut claiming = Claiming {
            conn: &self.conn,
            rng: &mut self.rng,
            filter: &group.group.filter,
            group: group.id,
            generation: group.generation,
            now,
            until: now + i64::try_from(group.group.lease.as_millis()).unwrap_or(i64::MAX / 2),
            labels: &group.labels,
            events: claim.max.min(IN_FLIGHT_PER_MEMBER.saturating_sub(held)),
            bytes: claim.bytes.max(1),
            scan: SCAN,
            member,
            claimed: Claimed::default(),
        };
        let count = group.ledgers.len();
        for turn in 0..count {
            let number = (group.turn + turn) % count;
            let Some(partition) = queue.partitions.get(number) else { continue };
            let lessee = Lessee {
                member: &claiming.member,
                held: group.ledgers.iter().map(|ledger| ledger.held(&claiming.member)).sum(),
                holds_suspect: group.ledgers.iter().any(|ledger| ledger.holds_suspect(&claiming.member)),
            };
            let room = group.ledgers[number].room(&lessee);
            claiming.partition(number, partition, &mut group.ledgers[number], room)?;
        }
        group.turn = group.turn.wrapping_add(1);
        claiming.claimed.more |= !claiming.has_room();
        Ok(Ok(claiming.claimed))
    }
}

impl Claiming<'_> {
    fn partition(
        &mut self,
        number: usize,
        partition: &PartitionState,
        ledger: &mut Ledger,
        room: Room,
    ) -> rusqlite::Result<()> {
        match room {
            Room::Nothing => Ok(()),
            Room::Suspect(position) => {
                if let Some(entry) = self.fetch(partition, ledger, position)? {
                    self.lease(number, ledger, entry);
                }
                Ok(())
            }
            Room::Events(room) => {
                let room = room.min(self.events);
                let before = self.claimed.leased.len();
                while self.claimed.leased.len() - before < room
                    && self.has_room()
                    && let Some(position) = ledger.first_ready()
                {
                    if let Some(entry) = self.fetch(partition, ledger, position)? {
                        self.lease(number, ledger, entry);
                    }
                }
                let room = room - (self.claimed.leased.len() - before);
                self.take_new(number, partition, ledger, room)
            }
        }
    }

    /// Takes new events in until there is no room for one more that is ready.
    fn take_new(
        &mut self,
        number: usize,
        partition: &PartitionState,
        ledger: &mut Ledger,
        mut room: usize,
    ) -> rusqlite::Result<()> {
        while ledger.next() < partition.log.next && ledger.takes_new() {
            if room == 0 || !self.has_room() || self.scan == 0 {
                self.claimed.more = true;
                return Ok(());
            }
            let chunk = partition.log.read(self.conn, ledger.next(), room.min(CHUNK).min(self.scan))?;
            if chunk.is_empty() {
                ledger.pass();
            }
            for entry in chunk {
                if !ledger.takes_new() || !self.has_room() {
                    break;
                }
                self.scan = self.scan.saturating_sub(1);
                while ledger.next() < entry.position {
                    ledger.pass();
                }
                if ledger.record(entry.position).is_some() {
                    ledger.pass();
                } else if !self.filter.matches(&entry.envelope.queue, &entry.envelope.event) {
                    self.labels.outcome("filtered");
                    ledger.pass();
                } else if self.is_over(&entry) {
                    self.labels.outcome("expired");
                    ledger.pass();
                } else if ledger.take(publish::hash(entry.envelope.key())) {
                    self.lease(number, ledger, entry);
                    room -= 1;
                }
            }
        }
        Ok(())
    }

    /// The event of a record that is ready. None, and the record settled, where it is over or no longer kept.
    fn fetch(&self, partition: &PartitionState, ledger: &mut Ledger, position: u64) -> rusqlite::Result<Option<Entry>> {
        let entry = match partition.log.get(self.conn, position)? {
            Some(entry) => Some(entry),
            None => dead::envelope(self.conn, self.group, partition.log.id, position)?,
        };
        match entry {
            Some(entry) if !self.is_over(&entry) => return Ok(Some(entry)),
            Some(_) => self.labels.outcome("expired"),
            None => {
                tracing::error!(position, "an unsettled event is no longer in the log");
                self.labels.outcome("lost");
            }
        }
        if ledger.record(position).is_some_and(|record| record.redrive > 0) {
            dead::forget(self.conn, self.group, partition.log.id, position)?;
        }
        ledger.drop_ready(position);
        Ok(None)
    }

    fn lease(&mut self, number: usize, ledger: &mut Ledger, entry: Entry) {
        let secret = self.rng.random();
        ledger.lease(entry.position, &self.member, secret, self.now, self.until);
        let Some(record) = ledger.record(entry.position) else { return };
        let partition = u32::try_from(number).unwrap_or(u32::MAX);
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.claimed.leased.push(Leased {
            token: Token { generation: self.generation, partition, position: entry.position, secret },
            partition,
            position: entry.position,
            attempt: record.failures + 1,
            redrive: record.redrive,
            first_delivered: moment(record.first_delivered),
            until: moment(self.until),
            envelope: entry.envelope,
        });
    }

    /// Whether one more event may be leased.
    fn has_room(&self) -> bool {
        self.events > 0 && self.bytes > 0
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.envelope.expirytime.is_some_and(|time| millis(time) <= self.now)
    }
}
