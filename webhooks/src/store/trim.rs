//! What is old, or too much, leaves.

use database::{Row, params};
use time::OffsetDateTime;

use super::Store;
use crate::Error;

/// The most rows one step removes, so that it doesn't hold up writers.
const STEP: i64 = 500;
/// The most attempts that are kept of an endpoint.
pub(crate) const MOST_ATTEMPTS: i64 = 5000;

impl Store {
    /// Removes some attempts made before then; how many.
    pub async fn trim_attempts(&self, before: OffsetDateTime) -> Result<u64, Error> {
        let mut tx = self.database.begin().await?;
        let removed = tx
            .execute(
                "DELETE FROM webhook_attempt WHERE seq IN
                     (SELECT seq FROM webhook_attempt WHERE at < $1 ORDER BY at LIMIT $2)",
                params![before, STEP],
            )
            .await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// Removes some of the oldest attempts of endpoints that have too many; how many.
    pub async fn trim_too_many(&self, most: i64) -> Result<u64, Error> {
        let rows = self
            .database
            .query("SELECT webhook FROM webhook_attempt GROUP BY webhook HAVING count(*) > $1", params![most])
            .await?;
        let mut removed = 0;
        for row in &rows {
            let id: String = row.get("webhook")?;
            let mut tx = self.database.begin().await?;
            removed += tx
                .execute(
                    "DELETE FROM webhook_attempt WHERE seq IN (SELECT seq FROM webhook_attempt WHERE webhook = $1
                       AND seq <= (SELECT seq FROM webhook_attempt WHERE webhook = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)
                     ORDER BY seq LIMIT $3)",
                    params![id, most, STEP],
                )
                .await?;
            tx.commit().await?;
        }
        Ok(removed)
    }

    /// Forgets acknowledgements that nobody came for. While an endpoint is disabled nobody can.
    pub async fn trim_waits(&self, before: OffsetDateTime) -> Result<u64, Error> {
        let sql = "DELETE FROM webhook_wait
             WHERE until < $1 AND webhook NOT IN (SELECT id FROM webhook WHERE state = 'disabled')";
        let mut tx = self.database.begin().await?;
        let removed = tx.execute(sql, params![before]).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// How many are enabled, and how many aren't.
    pub async fn counts(&self) -> Result<(u64, u64), Error> {
        let sql =
            "SELECT state, count(*) AS endpoints FROM webhook WHERE state IN ('enabled', 'disabled') GROUP BY state";
        let (mut enabled, mut disabled) = (0, 0);
        for row in self.database.query(sql, &[]).await? {
            let count = count(&row)?;
            match row.get::<String>("state")?.as_str() {
                "enabled" => enabled = count,
                _ => disabled = count,
            }
        }
        Ok((enabled, disabled))
    }
}

fn count(row: &Row) -> Result<u64, Error> {
    super::number(row.get("endpoints")?)
}
