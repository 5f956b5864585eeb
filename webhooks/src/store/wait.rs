//! Events that a receiver has accepted and is to acknowledge later.

use database::params;
use time::OffsetDateTime;

use super::Store;
use crate::{Error, Late, ack::Known};

/// How it stands with an event that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Until(OffsetDateTime),
    Said(Late),
}

impl Store {
    /// None: it wasn't accepted, or that is settled.
    pub async fn wait(&self, id: &str, event: Known) -> Result<Option<Wait>, Error> {
        let sql = "SELECT until, said, error FROM webhook_wait WHERE webhook = $1 AND known = $2";
        let rows = self.database.query(sql, params![id, event.to_string()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(match row.get::<Option<String>>("said")?.as_deref() {
            None => Wait::Until(row.get("until")?),
            Some(DONE) => Wait::Said(Late::Done),
            Some(_) => Wait::Said(Late::Failed(row.get::<Option<String>>("error")?.unwrap_or_default())),
        }))
    }

    /// It was accepted, and waits in that group. The acknowledgement may have been faster.
    pub async fn accepted(&self, id: &str, event: Known, group: &str, until: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO webhook_wait (webhook, known, until, of_group) VALUES ($1, $2, $3, $4)
             ON CONFLICT (webhook, known) DO UPDATE SET until = $3, of_group = $4",
            params![id, event.to_string(), until, group],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// The receiver has said what became of it, now. The group in which it waits; None: it doesn't, or not yet.
    pub async fn said(
        &self,
        id: &str,
        event: Known,
        late: &Late,
        now: OffsetDateTime,
    ) -> Result<Option<String>, Error> {
        let (said, error) = match late {
            Late::Done => (DONE, None),
            Late::Failed(error) => ("failed", Some(error.clone())),
        };
        let known = event.to_string();
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO webhook_wait (webhook, known, until, said, error) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (webhook, known) DO UPDATE SET until = $3, said = $4, error = $5",
            params![id, &known, now, said, error],
        )
        .await?;
        let sql = "SELECT of_group FROM webhook_wait WHERE webhook = $1 AND known = $2";
        let rows = tx.query(sql, params![id, &known]).await?;
        let group = rows.first().map(|row| row.get("of_group")).transpose()?.flatten();
        tx.commit().await?;
        Ok(group)
    }

    /// That is settled.
    pub async fn settled(&self, id: &str, event: Known) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute("DELETE FROM webhook_wait WHERE webhook = $1 AND known = $2", params![id, event.to_string()])
            .await?;
        Ok(tx.commit().await?)
    }

    /// Whatever was accepted or said is forgotten.
    pub async fn forget_waits(&self, id: &str) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute("DELETE FROM webhook_wait WHERE webhook = $1", params![id]).await?;
        Ok(tx.commit().await?)
    }
}

const DONE: &str = "done";
