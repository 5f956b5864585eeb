//! Held messages become a digest: its row and what it covers are one transaction.

use database::{Error, Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    ledger::{Key, Ledger, Seq},
    rules::Channel,
};

/// The source of a digest's key; no event has it, for it is no path of ours.
const SOURCE: &str = "urn:turnpike:digest";

/// Recipients whose windows are closed, and digests that are listed, in one go.
const BATCH: i64 = 100;

/// A digest that is to be sent.
#[derive(Debug)]
pub(crate) struct Due {
    pub seq: Seq,
    pub key: Key,
    pub covers: i64,
    pub attempts: i64,
}

impl Ledger {
    /// Makes digests of what is held in windows that have ended; how many.
    pub async fn close_windows(&self, now: OffsetDateTime) -> Result<usize, Error> {
        let ended = self
            .0
            .query(
                "SELECT DISTINCT rule, channel, recipient FROM message
                 WHERE state = 'held' AND digest IS NULL AND not_before <= $1 LIMIT $2",
                params![now, BATCH],
            )
            .await?;
        for row in &ended {
            self.close_window(row.get("rule")?, row.get("channel")?, row.get("recipient")?, now).await?;
        }
        Ok(ended.len())
    }

    async fn close_window(
        &self,
        rule: String,
        channel: String,
        recipient: String,
        now: OffsetDateTime,
    ) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        // Of two processes that see the window end, one waits here, and then finds nothing more.
        tx.query(
            "SELECT used FROM allowance WHERE rule = $1 AND channel = $2 AND recipient = $3 FOR UPDATE",
            params![&rule, &channel, &recipient],
        )
        .await?;
        let held = tx
            .query(
                "SELECT count(*) AS held, max(address) AS address FROM message
                 WHERE state = 'held' AND digest IS NULL AND not_before <= $1
                   AND rule = $2 AND channel = $3 AND recipient = $4",
                params![now, &rule, &channel, &recipient],
            )
            .await?;
        let (held, address): (i64, Option<String>) = match held.first() {
            Some(row) => (row.get("held")?, row.get("address")?),
            None => (0, None),
        };
        if held == 0 {
            return tx.rollback().await;
        }
        let event = Uuid::now_v7().to_string();
        tx.execute(
            "INSERT INTO message (source, event, rule, channel, recipient, address, title, state, covers, attempts,
                 not_before, created_at, touched_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'intended', $8, 0, $9, $9, $9)",
            params![SOURCE, &event, &rule, &channel, &recipient, address, format!("{held} more"), held, now],
        )
        .await?;
        tx.execute(
            "UPDATE message SET digest = (SELECT seq FROM message AS d WHERE d.source = $1 AND d.event = $2
                 AND d.rule = $3 AND d.channel = $4 AND d.recipient = $5)
             WHERE state = 'held' AND digest IS NULL AND not_before <= $6
               AND rule = $3 AND channel = $4 AND recipient = $5",
            params![SOURCE, &event, &rule, &channel, &recipient, now],
        )
        .await?;
        tx.commit().await
    }

    /// Digests that may be attempted, the oldest first.
    pub async fn due(&self, now: OffsetDateTime) -> Result<Vec<Due>, Error> {
        let rows = self
            .0
            .query(
                "SELECT seq, source, event, rule, channel, recipient, covers, attempts FROM message
                 WHERE state = 'intended' AND covers > 0 AND not_before <= $1 ORDER BY seq LIMIT $2",
                params![now, BATCH],
            )
            .await?;
        rows.iter().map(due).collect()
    }

    /// Takes a digest, the caller's alone until `until`; false if somebody else has it.
    pub async fn claim(&self, due: &Due, now: OffsetDateTime, until: OffsetDateTime) -> Result<bool, Error> {
        let mut tx = self.0.begin().await?;
        let taken = tx
            .execute(
                "UPDATE message SET attempts = attempts + 1, not_before = $1, touched_at = $2
                 WHERE seq = $3 AND state = 'intended' AND not_before <= $2",
                params![until, now, due.seq.0],
            )
            .await?;
        tx.commit().await?;
        Ok(taken == 1)
    }

    /// The titles of the first messages that a digest covers.
    pub async fn titles(&self, digest: Seq, limit: i64) -> Result<Vec<String>, Error> {
        let rows = self
            .0
            .query("SELECT title FROM message WHERE digest = $1 ORDER BY seq LIMIT $2", params![digest.0, limit])
            .await?;
        rows.iter().map(|row| row.get("title")).collect()
    }
}

fn due(row: &Row) -> Result<Due, Error> {
    let channel: String = row.get("channel")?;
    let channel = Channel::named(&channel).ok_or_else(|| Error::Query(format!("no channel {channel}")))?;
    let key = Key {
        source: row.get("source")?,
        event: row.get("event")?,
        rule: row.get("rule")?,
        channel,
        recipient: row.get("recipient")?,
    };
    Ok(Due { seq: Seq(row.get("seq")?), key, covers: row.get("covers")?, attempts: row.get("attempts")? })
}
