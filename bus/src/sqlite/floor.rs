//! Moving a partition's floor: by age, by what its queue may hold. What a group has not settled stays, unless the queue
//! drops its oldest, or nobody claimed for the group for as long as the queue keeps events: then the group loses it.

use std::time::Duration;

use events::Name;
use rusqlite::params;
use serde_json::json;

use super::owned::Owned;
use crate::{
    Overflow, Queue,
    broken::{Promise, is_broken},
};

/// Events trimmed a pass and partition.
const TRIM: u64 = 1000;
/// How often it is looked for what may go, some thousand events at a time, before a publish is refused.
const TURNS: usize = 16;
/// A group that is away for less has its hold, however short its queue's time is.
const AWAY: Duration = Duration::from_secs(60);

impl Owned {
    /// Deletes what is older or more than its queue keeps; whether more is left.
    pub(super) fn trim(&mut self, now: i64) -> rusqlite::Result<bool> {
        let mut busy = false;
        let queues: Vec<Queue> = self.queues.values().map(|queue| queue.settings.clone()).collect();
        for queue in queues {
            let max_age = i64::try_from(queue.max_age.as_millis()).unwrap_or(i64::MAX);
            for number in 0..queue.partitions as usize {
                let known = self.queues.get_mut(&queue.name);
                let Some(partition) = known.and_then(|queue| queue.partitions.get_mut(number)) else { continue };
                partition.log.note_weight(&self.conn)?;
                let too_old = partition.log.position_at(&self.conn, now.saturating_sub(max_age))?;
                let most = partition.log.floor + TRIM;
                let too_much = self.too_much(&queue, number, 0, 0)?;
                let (held, away) = self.held(&queue, number, too_old.max(too_much).min(most), now);
                let forced = if queue.overflow == Overflow::DropOldest { too_much.min(most) } else { 0 };
                self.raise(&queue.name, number, held.max(forced), &away, now)?;
                busy |= held.max(forced) == most;
            }
        }
        Ok(busy)
    }

    /// Makes room for so many more events and bytes; whether there is.
    pub(super) fn make_room(
        &mut self,
        queue: &Name,
        number: usize,
        events: u64,
        bytes: u64,
        now: i64,
    ) -> rusqlite::Result<bool> {
        let limited = |queue: &&Queue| queue.max_len.is_some() || queue.max_bytes.is_some();
        let Some(queue) = self.queues.get(queue).map(|queue| &queue.settings).filter(limited).cloned() else {
            return Ok(true);
        };
        let queue = &queue;
        if events == 0 || !self.is_full(queue, number, events, bytes) {
            return Ok(true);
        }
        for _ in 0..TURNS {
            let want = self.too_much(queue, number, events, bytes)?;
            if queue.overflow == Overflow::DropOldest {
                self.raise(&queue.name, number, want, &[], now)?;
            } else {
                let (stop, away) = self.held(queue, number, want, now);
                self.raise(&queue.name, number, stop, &away, now)?;
                if stop < want {
                    return Ok(false);
                }
            }
            // What this transaction recorded is trimmed by a later one, so that a batch may be larger than what is kept.
            let floor = self.log(&queue.name, number).map_or(0, |log| log.floor);
            if floor < want || !self.is_full(queue, number, events, bytes) {
                return Ok(true);
            }
        }
        Ok(queue.overflow == Overflow::DropOldest)
    }

    fn is_full(&self, queue: &Queue, number: usize, events: u64, bytes: u64) -> bool {
        let Some(log) = self.log(&queue.name, number) else { return false };
        queue.max_len.is_some_and(|most| log.next - log.floor + events > most)
            || queue.max_bytes.is_some_and(|most| log.bytes + bytes > most)
    }

    /// The first position that may stay where so many more events and bytes come.
    fn too_much(&self, queue: &Queue, number: usize, events: u64, bytes: u64) -> rusqlite::Result<u64> {
        let Some(log) = self.log(&queue.name, number) else { return Ok(0) };
        let by_length = queue.max_len.map_or(0, |most| (log.next + events).saturating_sub(most));
        let by_bytes = match queue.max_bytes {
            Some(most) => log.fits(&self.conn, most.saturating_sub(bytes))?,
            None => 0,
        };
        Ok(by_length.max(by_bytes))
    }

    /// How far the floor may move towards a position without passing what a group has not settled; and the groups that
    /// were away for so long that they hold nothing any more.
    fn held(&self, queue: &Queue, number: usize, mut stop: u64, now: i64) -> (u64, Vec<String>) {
        if is_broken(Promise::GroupsHoldTheLog) {
            return (stop, Vec::new());
        }
        let longest = i64::try_from(queue.max_age.max(AWAY).as_millis()).unwrap_or(i64::MAX);
        let mut away = Vec::new();
        for group in self.groups.values().filter(|group| group.group.filter.queue == queue.name) {
            let Some(hold) = group.ledgers.get(number).map(|ledger| ledger.hold()).filter(|hold| *hold < stop) else {
                continue;
            };
            if group.claimed > 0 && now - group.claimed.max(self.keeping.awake) > longest {
                away.push(group.group.name.clone());
            } else {
                stop = hold;
            }
        }
        (stop, away)
    }

    /// Moves the floor; what groups had not settled before it is lost.
    fn raise(&mut self, queue: &Name, number: usize, to: u64, away: &[String], now: i64) -> rusqlite::Result<()> {
        let Some(partition) = self.queues.get_mut(queue).and_then(|queue| queue.partitions.get_mut(number)) else {
            return Ok(());
        };
        partition.log.raise(&self.conn, to)?;
        let floor = partition.log.floor;
        for group in self.groups.values_mut().filter(|group| group.group.filter.queue == *queue) {
            let Some(ledger) = group.ledgers.get_mut(number).filter(|ledger| ledger.hold() < floor) else { continue };
            let name = &group.group.name;
            if away.contains(name) && group.abandoned.is_none() {
                group.abandoned = Some(now);
                self.conn
                    .prepare_cached("UPDATE consumer_group SET abandoned = ?2 WHERE id = ?1")?
                    .execute(params![group.id, now])?;
                tracing::warn!(group = name, %queue, "nobody claims for the group: it lost its hold");
                let data = json!({
                    "group": name, "queue": queue, "partition": number, "from": ledger.hold(), "to": floor
                });
                self.told.push(("GROUP_ABANDONED", data));
            }
            ledger.lose(floor);
            (group.woken, group.settled) = (true, true);
        }
        Ok(())
    }
}
