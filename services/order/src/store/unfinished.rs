//! What the sweep looks for, and the command it gives anew.

use database::params;
use time::OffsetDateTime;

use super::{Announcement, SOURCE, Store, command, now};

impl Store {
    /// Orders placed before `cutoff` that are pending and can still be rejected, oldest first, at most `limit`.
    pub async fn overdue(&self, cutoff: OffsetDateTime, limit: i64) -> Result<Vec<String>, database::Error> {
        self.ids(
            "SELECT id FROM orders WHERE stage NOT IN ('cleared', 'released') AND stage IN ('placed', 'reserved')
             AND created_at < $1 ORDER BY created_at LIMIT $2",
            cutoff,
            limit,
        )
        .await
    }

    /// Orders rejected before `cutoff` whose stock was not given back yet, oldest first, at most `limit`.
    pub async fn unreleased(&self, cutoff: OffsetDateTime, limit: i64) -> Result<Vec<String>, database::Error> {
        self.ids(
            "SELECT id FROM orders WHERE stage NOT IN ('cleared', 'released') AND stage = 'rejected'
             AND updated_at < $1 ORDER BY updated_at LIMIT $2",
            cutoff,
            limit,
        )
        .await
    }

    /// Unfinished orders to which nothing happened, and which nobody was commanded to see through, since `cutoff`.
    pub async fn stalled(&self, cutoff: OffsetDateTime, limit: i64) -> Result<Vec<String>, database::Error> {
        self.ids(
            "SELECT id FROM orders WHERE stage NOT IN ('cleared', 'released')
             AND updated_at < $1 AND commanded_at < $1 ORDER BY commanded_at LIMIT $2",
            cutoff,
            limit,
        )
        .await
    }

    /// Appends the command to see an order through once more, unless that was done since `cutoff`. Says whether it did.
    pub async fn command_again(&self, id: &str, cutoff: OffsetDateTime) -> Result<bool, database::Error> {
        let mut tx = self.database.begin().await?;
        let rows = tx
            .query(
                "UPDATE orders SET commanded_at = $1 WHERE id = $2 AND commanded_at < $3 RETURNING customer",
                params![now(), id, cutoff],
            )
            .await?;
        let Some(row) = rows.first() else {
            tx.rollback().await?;
            return Ok(false);
        };
        let owner = Some(row.get::<String>("customer")?);
        outbox::append(&mut tx, SOURCE, Announcement { owner, ..command(id) }).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn ids(&self, sql: &'static str, cutoff: OffsetDateTime, limit: i64) -> Result<Vec<String>, database::Error> {
        let rows = self.database.query(sql, params![cutoff, limit]).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }
}
