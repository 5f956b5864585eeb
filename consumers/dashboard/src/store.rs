//! The tallies on disk, each with the cursor it is true of.

use std::str::FromStr as _;

use bus::Cursor;
use database::{Database, Error, Migration, Row, Url, params};
use events::Name;
use time::OffsetDateTime;

use crate::{NAME, tally::Tally};

const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    name: "tally",
    sql: "CREATE TABLE tally (
              queue TEXT PRIMARY KEY,
              progress BIGINT NOT NULL,
              events TEXT NOT NULL,
              cursor TEXT NOT NULL,
              saved_at BIGINT NOT NULL
          );",
}];

#[derive(Clone)]
pub(crate) struct Store(Database);

/// A queue's tally and the place in the queue that it has come to.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub queue: Name,
    pub tally: Tally,
    pub cursor: Cursor,
}

impl Store {
    pub async fn open(url: &Url) -> Result<Self, Error> {
        Ok(Self(Database::open(url, NAME, &MIGRATIONS).await?))
    }

    pub async fn load(&self) -> Result<Vec<Kept>, Error> {
        self.0.query("SELECT queue, events, cursor FROM tally ORDER BY queue", &[]).await?.iter().map(kept).collect()
    }

    /// Keeps them all or none. A row that is further already, by another dashboard, stays as it is.
    pub async fn save(&self, tallies: &[Kept]) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        let now = OffsetDateTime::now_utc();
        // In the queues' order, so that two dashboards can't wait for each other's rows.
        for Kept { queue, tally, cursor } in tallies {
            let events = serde_json::to_string(tally).map_err(|error| Error::Query(error.to_string()))?;
            let progress = i64::try_from(tally.progress()).unwrap_or(i64::MAX);
            tx.execute(
                "INSERT INTO tally (queue, progress, events, cursor, saved_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (queue) DO UPDATE SET progress = excluded.progress, events = excluded.events,
                     cursor = excluded.cursor, saved_at = excluded.saved_at
                 WHERE tally.progress < excluded.progress",
                params![queue.as_str(), progress, events, cursor.to_string(), now],
            )
            .await?;
        }
        tx.commit().await
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}

fn kept(row: &Row) -> Result<Kept, Error> {
    let queue: String = row.get("queue")?;
    let broken = |what: String| Error::Query(format!("the tally of {queue}: {what}"));
    let cursor = Cursor::from_str(&row.get::<String>("cursor")?).map_err(|error| broken(error.to_string()))?;
    let tally = serde_json::from_str(&row.get::<String>("events")?).map_err(|error| broken(error.to_string()))?;
    Ok(Kept { queue: Name::new(&queue).map_err(|error| broken(error.to_string()))?, tally, cursor })
}
