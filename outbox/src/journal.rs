//! Keeping what others publish: an outbox whose rows are sent before they are written.
//!
//! Of events that nobody else keeps (clients', on queues with `journal: true`), the journal keeps a copy, with the place
//! where the bus recorded each; only then is the publish answered. Where the bus loses them, a [`crate::Relay`] on the
//! journal's database publishes them again, in their order, as it does with a service's own. What is published through one
//! journal keeps its keys' order; if two processes publish events of one key at the same moment, either may come first.
//!
//! It makes a publish dearer by a transaction, and one at a time goes through it. An event that waits for its
//! `deliverytime` has no place yet and isn't kept.

use std::{collections::HashSet, time::Duration};

use bus::{Bus, Error, Outcome, PublishOptions, Recorded};
use database::{Database, Migration, Transaction, params};
use events::{Envelope, Name};
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::Instant};

use crate::row::Headers;

/// How long the queues' settings are believed.
const SETTINGS: Duration = Duration::from_secs(1);

/// The journal of one process. The relay on its database is another part ([`crate::Relay`]).
pub struct Journal {
    database: Database,
    bus: Bus,
    /// One publish at a time, so that rows have the order of what they tell of.
    turn: Mutex<()>,
    queues: parking_lot::Mutex<(Option<Instant>, HashSet<Name>)>,
}

/// What the journal's database has beside [`crate::migration`]: an event's row is found by its identity.
pub fn journal_migration(version: i64) -> Migration {
    Migration { version, name: "journal", sql: "CREATE INDEX outbox_identity ON outbox (source, id);" }
}

impl Journal {
    pub fn new(database: Database, bus: Bus) -> Self {
        Self { database, bus, turn: Mutex::default(), queues: parking_lot::Mutex::default() }
    }

    /// Publishes as [`Bus::publish_with`] does, and keeps what goes into queues that want it.
    ///
    /// # Errors
    /// As [`Bus::publish_with`]; also [`Error::Unavailable`] where the bus has the events and the journal hasn't: to be
    /// published again with the same ids.
    pub async fn publish(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        let queues = self.queues().await?;
        if !events.iter().any(|event| queues.contains(&event.queue)) {
            return self.bus.publish_with(events, options).await;
        }
        let _turn = self.turn.lock().await;
        let outcomes = self.bus.publish_with(events.clone(), options).await?;
        let recorded =
            events.iter().zip(&outcomes).filter_map(|(event, outcome)| Some((event, outcome.as_ref().ok()?)));
        let wanted: Vec<_> = recorded.filter(|(event, _)| queues.contains(&event.queue)).collect();
        self.keep(&wanted).await.map_err(|error| {
            Error::Unavailable(format!("the events are recorded, but not in the journal: publish them again ({error})"))
        })?;
        Ok(outcomes)
    }

    /// The queues that want it.
    async fn queues(&self) -> Result<HashSet<Name>, Error> {
        {
            let (at, queues) = &*self.queues.lock();
            if at.is_some_and(|at| at.elapsed() < SETTINGS) {
                return Ok(queues.clone());
            }
        }
        let queues = self.bus.queues().await?.into_iter().map(|queue| queue.settings);
        let queues: HashSet<Name> = queues.filter(|queue| queue.journal).map(|queue| queue.name).collect();
        *self.queues.lock() = (Some(Instant::now()), queues.clone());
        Ok(queues)
    }

    async fn keep(&self, events: &[(&Envelope, &Recorded)]) -> anyhow::Result<()> {
        let mut tx = self.database.begin().await?;
        for (event, recorded) in events {
            let Some(position) = recorded.position else { continue };
            if recorded.duplicate && is_kept(&mut tx, event).await? {
                continue;
            }
            keep(&mut tx, event, recorded, position).await?;
        }
        tx.commit().await?;
        // Where the bus lost them meanwhile, that is the relay's work: it looks at what was sent under which lineage.
        Ok(())
    }
}

async fn is_kept(tx: &mut Transaction, event: &Envelope) -> Result<bool, database::Error> {
    let sql = "SELECT seq FROM outbox WHERE source = $1 AND id = $2 AND queue = $3 LIMIT 1";
    let rows = tx.query(sql, params![event.source.as_str(), event.id.as_str(), event.queue.as_str()]).await?;
    Ok(!rows.is_empty())
}

async fn keep(tx: &mut Transaction, event: &Envelope, recorded: &Recorded, position: u64) -> anyhow::Result<()> {
    let (lineage, position, now) = (recorded.lineage.cast_signed(), position.cast_signed(), OffsetDateTime::now_utc());
    let headers = serde_json::to_string(&Headers::whole(event)?)?;
    let (queue, partition) = (event.queue.as_str(), recorded.partition);
    tx.execute(
        "INSERT INTO outbox (id, queue, event, key, source, headers, data, created_at,
                             sent_partition, sent_lineage, sent_position, sent_at)
         VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $9, $10, $11)",
        params![
            event.id.as_str(),
            queue,
            event.event.as_str(),
            event.key(),
            event.source.as_str(),
            headers,
            event.time,
            partition,
            lineage,
            position,
            now
        ],
    )
    .await?;
    tx.execute(
        "INSERT INTO outbox_lineage (queue, sent_partition, sent_lineage, last_position, last_sent_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (queue, sent_partition, sent_lineage) DO UPDATE SET
             last_sent_at = excluded.last_sent_at,
             last_position = CASE WHEN excluded.last_position > outbox_lineage.last_position
                                  THEN excluded.last_position ELSE outbox_lineage.last_position END",
        params![queue, partition, lineage, position, now],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bus::Queue;
    use database::Url;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn event(id: &str) -> Envelope {
        let name = |name| Name::new(name).unwrap();
        Envelope::new("/clients/alice", name("KEPT"), name("NOTE")).id(id)
    }

    async fn read(bus: &Bus) -> Vec<String> {
        let page = bus.read(&Name::new("KEPT").unwrap(), 0, 1, 100).await.unwrap();
        page.events.iter().map(|logged| logged.envelope.id.clone()).collect()
    }

    #[tokio::test]
    async fn what_a_journal_elsewhere_commits_after_a_loss_was_seen_to_comes_again() {
        let (folder, server) = (tempfile::tempdir().unwrap(), testkit::redis().await);
        let url = Url::sqlite(folder.path().join("journal.db"));
        let database = Database::open(&url, "journal", &[crate::migration(1), journal_migration(2)]).await.unwrap();
        let bus = bus::redis::open(&server.url()).await.unwrap();
        bus.declare_queue(Queue { journal: true, ..Queue::new(Name::new("KEPT").unwrap()) }).await.unwrap();
        let journal = Journal::new(database.clone(), bus.clone());
        journal.publish(vec![event("first")], PublishOptions::default()).await.unwrap().remove(0).unwrap();
        let late = bus.publish(vec![event("late")]).await.unwrap().remove(0).unwrap();
        let drain = CancellationToken::new();
        let relay = crate::Relay::new(database.clone(), bus.clone(), "/broker").run(drain.clone());
        let relay = tokio::spawn(relay);

        server.command(&["FLUSHALL"]);
        testkit::eventually("the relay has seen to the loss", SOON, async || {
            let sql = "SELECT seq FROM outbox WHERE sent_at IS NOT NULL AND sent_lineage <> $1";
            let sent = database.query(sql, params![late.lineage.cast_signed()]).await.unwrap();
            (!sent.is_empty()).then_some(())
        })
        .await;
        let mut tx = database.begin().await.unwrap();
        keep(&mut tx, &event("late"), &late, late.position.unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        testkit::eventually("it comes again", SOON, async || (read(&bus).await == ["first", "late"]).then_some(()))
            .await;
        drain.cancel();
        relay.await.unwrap().unwrap();
    }
}
