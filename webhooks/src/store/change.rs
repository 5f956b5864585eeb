//! Endpoints: changed, disabled, enabled, removed. Each change raises the revision, by which those who deliver notice it.

use std::time::Duration;

use database::{Row, Transaction, micros, params};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Store,
    endpoint::{SECRET, millis, of},
};
use crate::{Endpoint, Error, Reason, secret::Secret};

/// How long requests are signed with the secret before, too, and the most secrets before that still are.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
const MOST_FORMER: usize = 4;

impl Store {
    /// Its groups begin where they shall: it is delivered to. Whether nobody has given it up meanwhile.
    pub async fn begin(&self, id: &str) -> Result<bool, Error> {
        let mut tx = self.database.begin().await?;
        let sql = "UPDATE webhook SET state = 'enabled' WHERE id = $1 AND state = 'new'";
        let begun = tx.execute(sql, params![id]).await?;
        tx.commit().await?;
        Ok(begun > 0)
    }

    /// Writes what may be changed of it as its next revision, unless it isn't any more what was changed. True once it is
    /// committed; until then nobody else changes it, nor deletes groups of it.
    pub async fn update(&self, before: &Endpoint, after: &Endpoint, now: OffsetDateTime) -> Result<Transaction, Error> {
        let mut tx = self.database.begin().await?;
        let changed = tx
            .execute(
                "UPDATE webhook SET url = $2, filter = $3, description = $4, ordered = $5, ack_within = $6,
                     remove_after = $7, receipts = $8, updated_at = $9, revision = $10,
                     judged = CASE WHEN url = $2 THEN judged ELSE $10 END,
                     failures = CASE WHEN url = $2 THEN failures ELSE 0 END,
                     failing_since = CASE WHEN url = $2 THEN failing_since END
                 WHERE id = $1 AND state IN ('enabled', 'disabled') AND revision = $11",
                params![
                    &after.id,
                    &after.url,
                    &after.filter,
                    &after.description,
                    after.ordered,
                    after.ack_within.map(millis),
                    after.remove_after,
                    after.receipts,
                    now,
                    after.revision,
                    before.revision
                ],
            )
            .await?;
        if changed == 0 {
            drop(tx);
            self.get(&after.id).await?;
            return Err(Error::Unavailable("the endpoint was changed at the same time".to_owned()));
        }
        Ok(tx)
    }

    /// Keeps an endpoint as it was found, as long as the transaction lasts; None: it is another one by now.
    pub async fn hold(&self, found: &Touched) -> Result<Option<Transaction>, Error> {
        let mut tx = self.database.begin().await?;
        let sql = "SELECT id FROM webhook WHERE id = $1 AND revision = $2 FOR UPDATE";
        let rows = tx.query(sql, params![&found.id, found.revision]).await?;
        Ok((!rows.is_empty()).then_some(tx))
    }

    /// Gives it another secret; until when the one before signs, too. Those before that keep their own ends.
    ///
    /// # Errors
    /// [`Error::TooMany`] where so many sign that one of them had to end before its time.
    pub async fn rotate(&self, id: &str, secret: &Secret, now: OffsetDateTime) -> Result<OffsetDateTime, Error> {
        let mut tx = self.database.begin().await?;
        let before = self.lock(&mut tx, id).await?;
        let seal = |secret: &Secret| self.seal.close(&of(id, SECRET), secret.bytes());
        let (former, until) = (seal(&before.keys.current)?, now + OVERLAP);
        let signing: Vec<_> = before.keys.former.iter().filter(|(_, until)| *until > now).collect();
        if let Some((_, first)) = signing.last().filter(|_| signing.len() >= MOST_FORMER) {
            let first = first.format(&Rfc3339).unwrap_or_default();
            return Err(Error::TooMany(format!(
                "{MOST_FORMER} former secrets sign its requests still, as many as may: the first is over at {first}"
            )));
        }
        let earlier: Vec<(String, i64)> = signing
            .into_iter()
            .map(|(secret, until)| Ok((seal(secret)?, micros(*until))))
            .collect::<Result<_, Error>>()?;
        let earlier = serde_json::to_string(&earlier).map_err(|error| Error::Stored(error.to_string()))?;
        tx.execute(
            "UPDATE webhook SET secret = $2, former = $3, former_until = $4, earlier = $5, updated_at = $6,
                 revision = revision + 1 WHERE id = $1",
            params![id, seal(secret)?, former, until, earlier, now],
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

    /// It is delivered to again, and what was before is forgiven; so is what is under way.
    pub async fn enable(&self, id: &str, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        self.lock(&mut tx, id).await?;
        tx.execute(
            "UPDATE webhook SET state = 'enabled', reason = NULL, disabled_at = NULL, alert = 0, failures = 0,
                 failing_since = NULL, updated_at = $2, revision = revision + 1, judged = revision + 1
             WHERE id = $1",
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
            "UPDATE webhook SET state = 'removed', secret = '', former = NULL, earlier = NULL, alert = 0, updated_at = $2,
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
        let sql = "SELECT id, revision, filter, receipts, state FROM webhook
                   WHERE updated_at >= $1 AND state <> 'new' ORDER BY updated_at DESC LIMIT 1000";
        let touched = |row: &Row| {
            Ok(Touched {
                id: row.get("id")?,
                revision: row.get("revision")?,
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
    pub revision: i64,
    pub filter: String,
    pub receipts: bool,
    pub removed: bool,
}
