//! What the bus tells of itself, in the queue `SYS`: recorded in the transaction that caused it.

use events::Name;
use rusqlite::params;
use serde_json::json;
use uuid::Uuid;

use super::{declare, owned::Owned};
use crate::{PublishOptions, batch, clock::moment, sys};

impl Owned {
    /// Records what the transaction has to tell.
    pub(super) fn tell(&mut self, now: i64) -> rusqlite::Result<()> {
        self.mourn(now)?;
        for (event, data) in std::mem::take(&mut self.told) {
            let envelope = sys::envelope(&sys::name(event), &Uuid::now_v7().to_string(), moment(now), data);
            if !self.queues.contains_key(&envelope.queue)
                && let Err(error) = declare::queue(self, sys::queue(), now)?
            {
                tracing::error!(%error, "the bus can't tell of itself");
            }
            match batch::prepare(vec![envelope], now) {
                Ok(events) => drop(self.publish(events, &PublishOptions::default(), now)?),
                Err(error) => tracing::error!(%error, "the bus can't tell of itself"),
            }
        }
        Ok(())
    }

    /// Leaves an event about a partition to be told, unless it was told in the last ten minutes.
    pub(super) fn tell_rarely(&mut self, event: &'static str, queue: &Name, number: usize, now: i64) {
        let known = self.queues.get_mut(queue);
        let Some(partition) = known.and_then(|queue| queue.partitions.get_mut(number)) else { return };
        let told = partition.told.entry(event).or_insert(i64::MIN);
        if now.saturating_sub(*told) >= sys::RARELY {
            *told = now;
            self.told.push((event, json!({ "queue": queue, "partition": number })));
        }
    }

    /// Tells of dead letters, of each group at most every ten minutes.
    fn mourn(&mut self, now: i64) -> rusqlite::Result<()> {
        let Self { conn, groups, told, .. } = self;
        for group in groups.values_mut().filter(|group| group.deaths.count > 0) {
            let deaths = &mut group.deaths;
            if now - deaths.told >= sys::RARELY {
                let dead = super::dead::count(conn, group.id)?;
                let (name, queue) = (&group.group.name, &group.group.filter.queue);
                let count = std::mem::take(&mut deaths.count);
                told.push(("DEAD_LETTER", json!({ "group": name, "queue": queue, "count": count, "dead": dead })));
                (deaths.told, deaths.is_new) = (now, true);
            }
            if std::mem::take(&mut deaths.is_new) {
                conn.prepare_cached("UPDATE consumer_group SET deaths = ?2, mourned = ?3 WHERE id = ?1")?
                    .execute(params![group.id, deaths.count, deaths.told])?;
            }
        }
        Ok(())
    }
}
