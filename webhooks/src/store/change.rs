//! Endpoints: changed, disabled, enabled, removed. Each change raises the revision, by which those who deliver notice it.

use std::time::Duration;

use database::{Row, params};
use time::OffsetDateTime;

use super::{
    Store,
    endpoint::{SECRET, millis, of},
};
use crate::{Endpoint, Error, Reason, secret::Secret};

/// How long requests are signed with the secret before, too.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Its groups begin where they shall: it is delivered to.
    pub async fn begin(&self, id: &str) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute("UPDATE webhook SET state = 'enabled' WHERE id = $1 AND state = 'new'", params![id]).await?;
        Ok(tx.commit().await?)
    }

    /// Writes what may be changed of it, unless it isn't any more what was changed.
    pub async fn update(&self, endpoint: &Endpoint, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        let changed = tx
            .execute(
                "UPDATE webhook SET url = $2, filter = $3, description = $4, ordered = $5, ack_within = $6,
                     remove_after = $7, updated_at = $8, revision = revision + 1
                 WHERE id = $1 AND state IN ('enabled', 'disabled') AND revision = $9",
                params![
                    &endpoint.id,
                    &endpoint.url,
                    &endpoint.filter,
                    &endpoint.description,
                    endpoint.ordered,
                    endpoint.ack_within.map(millis),
                    endpoint.remove_after,
                    now,
                    endpoint.revision
                ],
            )
            .await?;
        if changed == 0 {
            drop(tx);
            self.get(&endpoint.id).await?;
            return Err(Error::Unavailable("the endpoint was changed at the same time".to_owned()));
        }
        Ok(tx.commit().await?)
    }

    /// Receipts come to it from now on; whether they didn't before.
    pub async fn take_receipts(&self, id: &str) -> Result<bool, Error> {
        let mut tx = self.database.begin().await?;
        let changed = tx
            .execute(
                "UPDATE webhook SET receipts = 1, revision = revision + 1
                 WHERE id = $1 AND receipts = 0 AND state IN ('enabled', 'disabled')",
                params![id],
            )
            .await?;
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// Gives it another secret; until when the one before signs, too.
    pub async fn rotate(&self, id: &str, secret: &Secret, now: OffsetDateTime) -> Result<OffsetDateTime, Error> {
        let mut tx = self.database.begin().await?;
        let before = self.lock(&mut tx, id).await?;
        let former = self.seal.close(&of(id, SECRET), before.keys.current.bytes())?;
        let secret = self.seal.close(&of(id, SECRET), secret.bytes())?;
        let until = now + OVERLAP;
        tx.execute(
            "UPDATE webhook SET secret = $2, former = $3, former_until = $4, updated_at = $5, revision = revision + 1
             WHERE id = $1",
            params![id, secret, former, until, now],
        )
        .await?;
        tx.commit().await?;
        Ok(until)
    }

    /// Nothing is sent to it any more; whether it was before. What somebody asked for isn't told as an alert.
    pub async fn disable(&self, id: &str, reason: Reason, now: OffsetDateTime) -> Result<bool, Error> {
        let mut tx = self.database.begin().await?;
        self.lock(&mut tx, id).await?;
        let changed = tx.execute(DISABLE, params![id, reason.as_str(), now, reason != Reason::Asked]).await?;
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// It is delivered to again, and what was before is forgiven.
    pub async fn enable(&self, id: &str, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        self.lock(&mut tx, id).await?;
        tx.execute(
            "UPDATE webhook SET state = 'enabled', reason = NULL, disabled_at = NULL, alert = 0, failures = 0,
                 failing_since = NULL, updated_at = $2, revision = revision + 1 WHERE id = $1",
            params![id, now],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Forgets it, but for what must be done yet.
    pub async fn remove(&self, id: &str, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        self.lock(&mut tx, id).await?;
        tx.execute(
            "UPDATE webhook SET state = 'removed', secret = '', former = NULL, alert = 0, updated_at = $2,
                 revision = revision + 1 WHERE id = $1",
            params![id, now],
        )
        .await?;
        tx.execute("DELETE FROM webhook_attempt WHERE webhook = $1", params![id]).await?;
        tx.execute("DELETE FROM webhook_wait WHERE webhook = $1", params![id]).await?;
        Ok(tx.commit().await?)
    }

    /// Those whose end is yet to be told.
    pub async fn alerts(&self) -> Result<Vec<Endpoint>, Error> {
        let rows = self.database.query("SELECT * FROM webhook WHERE alert = 1 AND state = 'disabled'", &[]).await?;
        rows.iter().map(|row| self.endpoint(row)).collect()
    }

    /// It was told that one is disabled since then.
    pub async fn told(&self, id: &str, since: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute("UPDATE webhook SET alert = 0 WHERE id = $1 AND disabled_at = $2", params![id, since]).await?;
        Ok(tx.commit().await?)
    }

    /// Those that were removed or changed since then.
    pub async fn touched(&self, since: OffsetDateTime) -> Result<Vec<Touched>, Error> {
        let sql = "SELECT id, filter, receipts, state FROM webhook
                   WHERE updated_at >= $1 AND state <> 'new' ORDER BY updated_at DESC LIMIT 1000";
        let touched = |row: &Row| {
            Ok(Touched {
                id: row.get("id")?,
                filter: row.get("filter")?,
                receipts: row.get("receipts")?,
                removed: row.get::<String>("state")? == "removed",
            })
        };
        self.database.query(sql, params![since]).await?.iter().map(touched).collect()
    }

    /// Forgets those that were removed before then, and those that somebody died in registering.
    pub async fn forget(&self, removed: OffsetDateTime, begun: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute("DELETE FROM webhook WHERE state = 'removed' AND updated_at < $1", params![removed]).await?;
        tx.execute(
            "UPDATE webhook SET state = 'removed', revision = revision + 1 WHERE state = 'new' AND created_at < $1",
            params![begun],
        )
        .await?;
        Ok(tx.commit().await?)
    }
}

pub(super) const DISABLE: &str = "UPDATE webhook SET state = 'disabled', reason = $2, disabled_at = $3, alert = $4,
     updated_at = $3, revision = revision + 1 WHERE id = $1 AND state = 'enabled'";

/// An endpoint whose groups may not be what they must be.
pub(crate) struct Touched {
    pub id: String,
    pub filter: String,
    pub receipts: bool,
    pub removed: bool,
}
