//! The logger's tables.

use bus::Inbox;
use database::{Database, Error, Migration, Row, Url, params};
use events::Envelope;
use serde::Serialize;
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};

use crate::{
    NAME,
    query::{EventQuery, SummaryQuery},
};

/// The most summaries of an answer.
pub(crate) const MOST_SUMMARIES: usize = 1_000;

const MIGRATIONS: [Migration; 1] = [Migration {
    version: 2,
    name: "event and summary",
    sql: "CREATE TABLE event (
              seq {identity},
              queue TEXT NOT NULL,
              event TEXT NOT NULL,
              subject TEXT,
              envelope TEXT NOT NULL
          );
          CREATE INDEX event_by_address ON event (queue, event, seq);
          CREATE INDEX event_by_subject ON event (subject, seq);
          CREATE TABLE summary (
              queue TEXT NOT NULL,
              event TEXT NOT NULL,
              source TEXT NOT NULL,
              minute BIGINT NOT NULL,
              events BIGINT NOT NULL,
              PRIMARY KEY (minute, queue, event, source)
          );",
}];

#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    inbox: Inbox,
}

/// How many events of a kind happened within a minute.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    queue: String,
    event: String,
    source: String,
    #[serde(with = "time::serde::rfc3339")]
    minute: OffsetDateTime,
    events: i64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summaries {
    /// Newest minute first.
    summaries: Vec<Summary>,
    /// The sum over all that match, not only over those listed.
    total: i64,
    /// There are more than are listed: ask for a shorter time.
    more: bool,
}

/// A logged event; `seq` is the order in which the logger took it in.
#[derive(Debug, Serialize)]
pub(crate) struct Logged {
    seq: i64,
    envelope: Box<RawValue>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Events {
    /// Newest first.
    events: Vec<Logged>,
    /// Ask for `before` this to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<i64>,
}

impl Store {
    pub async fn open(url: &Url) -> Result<Self, Error> {
        let migrations: Vec<Migration> = [Inbox::migration(1)].into_iter().chain(MIGRATIONS).collect();
        Ok(Self { database: Database::open(url, NAME, &migrations).await?, inbox: Inbox::new(NAME) })
    }

    /// Stores and counts an event; false if that was done before.
    pub async fn record(&self, envelope: &Envelope) -> Result<bool, Error> {
        let json = serde_json::to_string(envelope).map_err(|error| Error::Query(error.to_string()))?;
        let mut tx = self.database.begin().await?;
        if !self.inbox.first(&mut tx, envelope).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let (queue, event) = (envelope.queue.as_str(), envelope.event.as_str());
        tx.execute(
            "INSERT INTO event (queue, event, subject, envelope) VALUES ($1, $2, $3, $4)",
            params![queue, event, envelope.subject.as_deref(), json],
        )
        .await?;
        // Last, since it is the row that many want.
        tx.execute(
            "INSERT INTO summary (queue, event, source, minute, events) VALUES ($1, $2, $3, $4, 1)
             ON CONFLICT (minute, queue, event, source) DO UPDATE SET events = summary.events + 1",
            params![queue, event, envelope.source.as_str(), minute(envelope.time)],
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn summaries(&self, query: &SummaryQuery) -> Result<Summaries, Error> {
        let matching = params![
            query.from.map(minute),
            query.to,
            query.queue.as_ref().map(|name| name.as_str()),
            query.event.as_ref().map(|name| name.as_str()),
            query.source.as_deref(),
            (MOST_SUMMARIES + 1) as i64,
        ];
        let rows = self
            .database
            .query(
                "SELECT queue, event, source, minute, events,
                        CAST(COALESCE(sum(events) OVER (), 0) AS BIGINT) AS total
                 FROM summary
                 WHERE (CAST($1 AS BIGINT) IS NULL OR minute >= $1)
                   AND (CAST($2 AS BIGINT) IS NULL OR minute < $2)
                   AND (CAST($3 AS TEXT) IS NULL OR queue = $3)
                   AND (CAST($4 AS TEXT) IS NULL OR event = $4)
                   AND (CAST($5 AS TEXT) IS NULL OR source = $5)
                 ORDER BY minute DESC, queue, event, source
                 LIMIT $6",
                matching,
            )
            .await?;
        let total = rows.first().map_or(Ok(0), |row| row.get("total"))?;
        let summaries = rows.iter().take(MOST_SUMMARIES).map(summary).collect::<Result<_, _>>()?;
        Ok(Summaries { summaries, total, more: rows.len() > MOST_SUMMARIES })
    }

    pub async fn events(&self, query: &EventQuery) -> Result<Events, Error> {
        let rows = self
            .database
            .query(
                "SELECT seq, envelope FROM event
                 WHERE (CAST($1 AS BIGINT) IS NULL OR seq < $1)
                   AND (CAST($2 AS TEXT) IS NULL OR queue = $2)
                   AND (CAST($3 AS TEXT) IS NULL OR event = $3)
                   AND (CAST($4 AS TEXT) IS NULL OR subject = $4)
                 ORDER BY seq DESC LIMIT $5",
                params![
                    query.before,
                    query.queue.as_ref().map(|name| name.as_str()),
                    query.event.as_ref().map(|name| name.as_str()),
                    query.subject.as_deref(),
                    query.limit + 1,
                ],
            )
            .await?;
        let limit = usize::try_from(query.limit).unwrap_or_default();
        let events: Vec<Logged> = rows.iter().take(limit).map(logged).collect::<Result<_, _>>()?;
        let next_before = if rows.len() > limit { events.last().map(|last| last.seq) } else { None };
        Ok(Events { events, next_before })
    }

    pub async fn trim(&self) -> Result<(), Error> {
        while Inbox::trim(&self.database, OffsetDateTime::now_utc()).await? > 0 {}
        Ok(())
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

fn summary(row: &Row) -> Result<Summary, Error> {
    Ok(Summary {
        queue: row.get("queue")?,
        event: row.get("event")?,
        source: row.get("source")?,
        minute: row.get("minute")?,
        events: row.get("events")?,
    })
}

fn logged(row: &Row) -> Result<Logged, Error> {
    let envelope = RawValue::from_string(row.get("envelope")?).map_err(|error| Error::Query(error.to_string()))?;
    Ok(Logged { seq: row.get("seq")?, envelope })
}

/// The beginning of a moment's minute.
fn minute(time: OffsetDateTime) -> OffsetDateTime {
    time - Duration::nanoseconds(i64::try_from(time.unix_timestamp_nanos().rem_euclid(60_000_000_000)).unwrap_or(0))
}
