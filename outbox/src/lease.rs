//! The right to relay a database, held by one relay at a time and lost if it isn't used.
//!
//! Every write of the relay proves the lease in its own transaction, so a relay that was paused and lost it writes
//! nothing. What it may still publish then carries numbers that the bus has already.

use database::{Database, Error, Transaction, params};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// How long an idle, or dead, relay keeps the others waiting.
pub(crate) const LEASE: Duration = Duration::seconds(5);

/// How far clocks may be apart. A lease that lasts longer was taken by one that has been set back since.
const SKEW: Duration = Duration::seconds(30);

/// A held lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    owner: String,
    token: i64,
    /// The name under which the bus knows this outbox's numbers.
    pub outbox: String,
}

/// Takes the lease, or goes on with one's own. None: another relay has it.
pub(crate) async fn acquire(database: &Database, owner: &str, now: OffsetDateTime) -> Result<Option<Lease>, Error> {
    let latest = now + LEASE + SKEW;
    let held = "SELECT one FROM outbox_relay WHERE owner <> $1 AND until > $2 AND until <= $3";
    if !database.query(held, params![owner, now, latest]).await?.is_empty() {
        return Ok(None);
    }
    let mut tx = database.begin().await?;
    let rows = tx
        .query(
            "UPDATE outbox_relay
             SET token = CASE WHEN owner = $1 THEN token ELSE token + 1 END, owner = $1, until = $2,
                 outbox = CASE WHEN outbox = '' THEN $3 ELSE outbox END
             WHERE owner = $1 OR until <= $4 OR until > $5
             RETURNING token, outbox",
            params![owner, now + LEASE, Uuid::new_v4().to_string(), now, latest],
        )
        .await?;
    tx.commit().await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Lease { owner: owner.to_owned(), token: row.get("token")?, outbox: row.get("outbox")? }))
}

impl Lease {
    /// Prolongs the lease, and holds its row until the transaction ends. False: it is somebody else's.
    pub async fn prove(&self, tx: &mut Transaction, now: OffsetDateTime) -> Result<bool, Error> {
        let sql = "UPDATE outbox_relay SET until = $1 WHERE owner = $2 AND token = $3";
        Ok(tx.execute(sql, params![now + LEASE, &self.owner, self.token]).await? == 1)
    }

    /// Gives it up, so that another relay need not wait.
    pub async fn release(self, database: &Database) -> Result<(), Error> {
        let mut tx = database.begin().await?;
        let sql = "UPDATE outbox_relay SET until = 0 WHERE owner = $1 AND token = $2";
        tx.execute(sql, params![self.owner, self.token]).await?;
        tx.commit().await
    }
}
