//! Attempts, and what they say of their endpoint's health.

use std::time::Duration;

use database::{Row, Transaction, params};
use time::OffsetDateTime;

use super::{Store, change::DISABLE, number, word};
use crate::{Attempt, Attempts, Class, Error, Reason};

/// How long an endpoint may do nothing but fail, and how many failures that takes at least: one event's first attempts say
/// little of an endpoint that gets few.
const PATIENCE: Duration = Duration::from_secs(5 * 86_400);
const FEWEST: i64 = 5;
/// Of an error.
const MOST_ERROR: usize = 1024;

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing: it was a trial, or what came of it is yet to be told.
    Untold,
    Well,
    Failed,
    /// It wants nothing any more.
    Gone,
}

impl Store {
    /// Writes an attempt of an endpoint's revision down, and what follows of it; why the endpoint is disabled, if it is by
    /// this.
    pub async fn attempted(
        &self,
        (id, revision): (&str, i64),
        attempt: &Attempt,
        health: Health,
    ) -> Result<Option<Reason>, Error> {
        let mut tx = self.database.begin().await?;
        let by_this = judge(&mut tx, (id, revision), health, attempt.at).await?;
        let error = attempt.error.as_deref().map(|error| &error[..error.floor_char_boundary(MOST_ERROR)]);
        tx.execute(
            "INSERT INTO webhook_attempt (webhook, event, source, address, number, at, took, class, status, error, answer)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            params![
                id,
                &attempt.event,
                &attempt.source,
                &attempt.address,
                attempt.number,
                attempt.at,
                i64::try_from(attempt.took.as_micros()).unwrap_or(i64::MAX),
                attempt.class.as_str(),
                attempt.status.map(u32::from),
                error,
                attempt.answer.clone()
            ],
        )
        .await?;
        tx.commit().await?;
        Ok(by_this)
    }

    /// What was accepted by an endpoint's revision is done.
    pub async fn done_later(&self, of: (&str, i64), at: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        judge(&mut tx, of, Health::Well, at).await?;
        Ok(tx.commit().await?)
    }

    /// Newest first.
    pub async fn attempts(&self, id: &str, attempts: &Attempts, limit: usize) -> Result<Vec<(i64, Attempt)>, Error> {
        let rows = self
            .database
            .query(
                "SELECT * FROM webhook_attempt WHERE webhook = $1
                   AND (CAST($2 AS BIGINT) IS NULL OR seq < $2)
                   AND (CAST($3 AS TEXT) IS NULL OR event = $3)
                   AND ($4 = 0 OR class NOT IN ('delivered', 'accepted'))
                 ORDER BY seq DESC LIMIT $5",
                params![
                    id,
                    attempts.before,
                    attempts.event.clone(),
                    attempts.failed,
                    i64::try_from(limit).unwrap_or(i64::MAX)
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((row.get("seq")?, read(row)?))).collect()
    }
}

/// Takes in what is said of an endpoint; why it is disabled, if it is by this. What was sent before it was given another
/// address, or enabled, says nothing of it.
async fn judge(
    tx: &mut Transaction,
    (id, revision): (&str, i64),
    health: Health,
    at: OffsetDateTime,
) -> Result<Option<Reason>, Error> {
    let sql = "SELECT id FROM webhook WHERE id = $1 AND judged <= $2 FOR UPDATE";
    if health == Health::Untold || tx.query(sql, params![id, revision]).await?.is_empty() {
        return Ok(None);
    }
    let disabled = match health {
        Health::Untold => None,
        Health::Well => {
            well(tx, id, at).await?;
            None
        }
        Health::Failed => failed(tx, id, at).await?,
        Health::Gone => {
            failed(tx, id, at).await?;
            Some(Reason::Gone)
        }
    };
    let Some(reason) = disabled else { return Ok(None) };
    let by_this = tx.execute(DISABLE, params![id, reason.as_str(), at, true]).await? > 0;
    Ok(by_this.then_some(reason))
}

async fn well(tx: &mut Transaction, id: &str, at: OffsetDateTime) -> Result<(), Error> {
    tx.execute(
        "UPDATE webhook SET failures = 0, failing_since = NULL, succeeded_at = $2 WHERE id = $1",
        params![id, at],
    )
    .await?;
    Ok(())
}

/// Why it is to be disabled, if it is.
async fn failed(tx: &mut Transaction, id: &str, at: OffsetDateTime) -> Result<Option<Reason>, Error> {
    tx.execute(
        "UPDATE webhook SET failures = failures + 1, failing_since = COALESCE(failing_since, $2) WHERE id = $1",
        params![id, at],
    )
    .await?;
    let sql = "SELECT failures, failing_since, remove_after FROM webhook WHERE id = $1";
    let rows = tx.query(sql, params![id]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (failures, most): (i64, Option<i64>) = (row.get("failures")?, row.get("remove_after")?);
    let since: OffsetDateTime = row.get("failing_since")?;
    Ok(if most.is_some_and(|most| failures >= most) {
        Some(Reason::RemoveAfter)
    } else {
        (failures >= FEWEST && at - since >= PATIENCE).then_some(Reason::Failing)
    })
}

fn read(row: &Row) -> Result<Attempt, Error> {
    Ok(Attempt {
        event: row.get("event")?,
        source: row.get("source")?,
        address: row.get("address")?,
        number: number(row.get("number")?)?,
        at: row.get("at")?,
        took: Duration::from_micros(number(row.get("took")?)?),
        class: word(&row.get::<String>("class")?, Class::parse)?,
        status: row.get::<Option<i64>>("status")?.map(number).transpose()?,
        error: row.get("error")?,
        answer: row.get::<Option<Vec<u8>>>("answer")?.unwrap_or_default(),
    })
}
