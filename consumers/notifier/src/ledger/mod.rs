//! What was sent to whom, so that nothing is sent twice: one row for each event (source and id), rule, channel and
//! recipient.
//!
//! A row is `intended` before its message is given to the channel, `sent` or `failed` after, or `held` for a digest and
//! then `covered` by it. A digest is a row of its own, treated alike. Who may attempt a row is decided in a transaction:
//! it is the attempter's until `not_before`, beyond the channel's timeout.
//!
//! It doesn't keep the texts, nor an address that one could write to.

mod admit;
mod digest;
mod list;
mod schema;
mod settle;

use database::{Database, Error, Url};
use time::{Duration, OffsetDateTime};

pub(crate) use admit::{Admission, Shown};
pub(crate) use digest::Due;
pub(crate) use list::Page;

use crate::rules::Channel;

/// How long what is done is remembered: the outbox may send an event again for seven days, the bus deliver it for seven
/// more.
const REMEMBERED: Duration = Duration::days(14);

/// The most rows one [`Ledger::trim`] removes.
const TRIM_STEP: i64 = 1_000;

#[derive(Clone)]
pub(crate) struct Ledger(Database);

/// What makes a message one of its own.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub source: String,
    pub event: String,
    pub rule: String,
    pub channel: Channel,
    pub recipient: String,
}

/// A row, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seq(pub i64);

/// How much is waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub held: i64,
    pub oldest_unsent: Option<OffsetDateTime>,
}

impl Ledger {
    pub async fn open(url: &Url) -> Result<Self, Error> {
        Ok(Self(Database::open(url, "notifier", &schema::MIGRATIONS).await?))
    }

    pub async fn waiting(&self) -> Result<Waiting, Error> {
        let rows = self
            .0
            .query(
                "SELECT count(*) AS unsent, CAST(COALESCE(sum(CASE state WHEN 'held' THEN 1 ELSE 0 END), 0) AS BIGINT) \
                 AS held, min(created_at) AS oldest FROM message WHERE state IN ('intended', 'held')",
                &[],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Waiting { held: 0, oldest_unsent: None }) };
        Ok(Waiting { held: row.get("held")?, oldest_unsent: row.get("oldest")? })
    }

    /// Forgets some of what was last touched more than 14 days before `now` and isn't held; how many rows. At most a
    /// thousand a call, so that it doesn't hold up senders.
    pub async fn trim(&self, now: OffsetDateTime) -> Result<u64, Error> {
        let mut tx = self.0.begin().await?;
        let trimmed = tx
            .execute(
                "DELETE FROM message WHERE seq IN
                     (SELECT seq FROM message WHERE touched_at < $1 AND state <> 'held' ORDER BY touched_at LIMIT $2)",
                database::params![now - REMEMBERED, TRIM_STEP],
            )
            .await?;
        tx.commit().await?;
        Ok(trimmed)
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}
