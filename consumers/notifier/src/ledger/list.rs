//! What the ledger holds, for operators.

use database::{Error, Row, params};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{ledger::Ledger, mask, query::MessageQuery};

/// A row, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    seq: i64,
    source: String,
    event: String,
    rule: String,
    channel: String,
    recipient: String,
    address: String,
    title: String,
    state: String,
    /// A digest: how many messages it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    covers: Option<i64>,
    /// The `seq` of the digest that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<i64>,
    attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    touched: OffsetDateTime,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// Newest first.
    messages: Vec<Listed>,
    /// Ask for `before` this to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<i64>,
}

impl Ledger {
    pub async fn list(&self, query: &MessageQuery) -> Result<Page, Error> {
        let rows = self
            .0
            .query(
                "SELECT seq, source, event, rule, channel, recipient, address, title, state, covers, digest, attempts,
                        reason, reference, created_at, touched_at
                 FROM message
                 WHERE (CAST($1 AS BIGINT) IS NULL OR seq < $1)
                   AND (CAST($2 AS TEXT) IS NULL OR state = $2)
                   AND (CAST($3 AS TEXT) IS NULL OR recipient = $3)
                   AND (CAST($4 AS TEXT) IS NULL OR rule = $4)
                   AND (CAST($5 AS TEXT) IS NULL OR event = $5)
                 ORDER BY seq DESC LIMIT $6",
                params![
                    query.before,
                    query.state.as_deref(),
                    query.recipient.as_deref(),
                    query.rule.as_deref(),
                    query.event.as_deref(),
                    query.limit + 1
                ],
            )
            .await?;
        let limit = usize::try_from(query.limit).unwrap_or_default();
        let messages: Vec<Listed> = rows.iter().take(limit).map(listed).collect::<Result<_, _>>()?;
        let next_before = if rows.len() > limit { messages.last().map(|last| last.seq) } else { None };
        Ok(Page { messages, next_before })
    }
}

fn listed(row: &Row) -> Result<Listed, Error> {
    Ok(Listed {
        seq: row.get("seq")?,
        source: row.get("source")?,
        event: row.get("event")?,
        rule: row.get("rule")?,
        channel: row.get("channel")?,
        recipient: row.get("recipient")?,
        address: row.get("address")?,
        title: mask::text(&row.get::<String>("title")?),
        state: row.get("state")?,
        covers: Some(row.get::<i64>("covers")?).filter(|covers| *covers > 0),
        digest: row.get("digest")?,
        attempts: row.get("attempts")?,
        reason: row.get("reason")?,
        reference: row.get("reference")?,
        created: row.get("created_at")?,
        touched: row.get("touched_at")?,
    })
}
