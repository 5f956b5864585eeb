//! What has ended long ago leaves.

use bus::Inbox;
use database::params;
use time::OffsetDateTime;

use super::Store;
use crate::Error;

/// The most jobs one step removes, so that it doesn't hold up writers.
const STEP: i64 = 200;

impl Store {
    /// Removes some jobs that ended before then, with all that is known of them; how many.
    pub async fn trim(&self, before: OffsetDateTime) -> Result<u64, Error> {
        let mut tx = self.0.begin().await?;
        let rows = tx
            .query(
                "SELECT id FROM job WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED",
                params![before, STEP],
            )
            .await?;
        for row in &rows {
            let id: String = row.get("id")?;
            tx.execute("DELETE FROM attempt WHERE job = $1", params![&id]).await?;
            tx.execute("DELETE FROM task WHERE job = $1", params![&id]).await?;
            tx.execute("DELETE FROM job WHERE id = $1", params![&id]).await?;
        }
        tx.commit().await?;
        Ok(rows.len() as u64)
    }

    /// Forgets steps that were done long ago ([`crate::Job::first`], where handlers share this database).
    pub async fn trim_inbox(&self, now: OffsetDateTime) -> Result<u64, Error> {
        Ok(Inbox::trim(&self.0, now).await?)
    }
}
