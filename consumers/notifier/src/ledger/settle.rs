//! What became of a message: the one transaction after it. What a digest covers shares its fate.

use database::{Error, Value, params};
use time::OffsetDateTime;

use crate::ledger::{Ledger, Seq};

impl Ledger {
    pub async fn sent(&self, seq: Seq, reference: Option<&str>, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        tx.execute(
            "UPDATE message SET state = 'sent', reason = NULL, reference = $1, touched_at = $2
             WHERE seq = $3 AND state = 'intended'",
            params![reference, now, seq.0],
        )
        .await?;
        tx.execute(
            "UPDATE message SET state = 'covered', touched_at = $1 WHERE digest = $2 AND state = 'held'",
            params![now, seq.0],
        )
        .await?;
        tx.commit().await
    }

    pub async fn failed(&self, seq: Seq, reason: &str, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        tx.execute(
            "UPDATE message SET state = 'failed', reason = $1, touched_at = $2 WHERE seq = $3 AND state = 'intended'",
            params![reason, now, seq.0],
        )
        .await?;
        tx.execute(
            "UPDATE message SET state = 'failed', reason = $1, touched_at = $2 WHERE digest = $3 AND state = 'held'",
            params![format!("its digest: {reason}"), now, seq.0],
        )
        .await?;
        tx.commit().await
    }

    /// It may be attempted again from `not_before` on.
    pub async fn unsent(
        &self,
        seq: Seq,
        reason: &str,
        not_before: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        let values: &[Value] = params![reason, not_before, now, seq.0];
        tx.execute(
            "UPDATE message SET reason = $1, not_before = $2, touched_at = $3 WHERE seq = $4 AND state = 'intended'",
            values,
        )
        .await?;
        tx.commit().await
    }
}
