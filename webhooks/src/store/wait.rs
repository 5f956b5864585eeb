//! Events that a receiver has accepted and is to acknowledge later.

use database::params;
use time::OffsetDateTime;

use super::Store;
use crate::{Error, Late, ack::Known};

/// How it stands with an event, before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The endpoint isn't what it was: another one delivers, or nobody.
    Outdated,
    /// It wasn't accepted, or that is settled.
    Nothing,
    /// It was accepted, by this revision of the endpoint where that is known.
    Accepted(Wait, Option<i64>),
}

/// How it stands with an event that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Until(OffsetDateTime),
    Said(Late),
}

impl Store {
    /// How it stands with an event of an endpoint that is delivered to as of this revision.
    pub async fn find(&self, (id, revision): (&str, i64), event: Known) -> Result<Found, Error> {
        let sql = "SELECT wait.until, wait.said, wait.error, wait.revision AS accepted FROM webhook
                   LEFT JOIN webhook_wait wait ON wait.webhook = webhook.id AND wait.known = $3
                   WHERE webhook.id = $1 AND webhook.revision = $2 AND webhook.state = 'enabled'";
        let rows = self.database.query(sql, params![id, revision, event.to_string()]).await?;
        let Some(row) = rows.first() else { return Ok(Found::Outdated) };
        let Some(until) = row.get("until")? else { return Ok(Found::Nothing) };
        let wait = match row.get::<Option<String>>("said")?.as_deref() {
            None => Wait::Until(until),
            Some(DONE) => Wait::Said(Late::Done),
            Some(_) => Wait::Said(Late::Failed(row.get::<Option<String>>("error")?.unwrap_or_default())),
        };
        Ok(Found::Accepted(wait, row.get("accepted")?))
    }

    /// It was accepted, and waits in that group. The acknowledgement may have been faster.
    pub async fn accepted(
        &self,
        (id, revision): (&str, i64),
        event: Known,
        group: &str,
        until: OffsetDateTime,
    ) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO webhook_wait (webhook, known, until, of_group, revision) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (webhook, known) DO UPDATE SET until = $3, of_group = $4, revision = $5",
            params![id, event.to_string(), until, group, revision],
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
