//! A repeated delivery without a second effect: which events a group has taken in, remembered in the handler's own
//! transaction.

use database::{Database, Error, Migration, Transaction, params};
use events::Envelope;
use time::{Duration, OffsetDateTime};

/// How long an event is remembered: the outbox may send it again for seven days, the log deliver it for seven more.
const REMEMBERED: Duration = Duration::days(14);

/// The most rows one [`Inbox::trim`] removes.
const TRIM_STEP: i64 = 1_000;

/// The events that one group has taken in.
#[derive(Clone, Debug)]
pub struct Inbox {
    group: String,
}

impl Inbox {
    /// The table; it goes into the service's own migrations with a version the service chooses.
    pub fn migration(version: i64) -> Migration {
        Migration {
            version,
            name: "inbox",
            sql: "CREATE TABLE inbox (
                      grp TEXT NOT NULL,
                      source TEXT NOT NULL,
                      id TEXT NOT NULL,
                      seen_at BIGINT NOT NULL,
                      PRIMARY KEY (grp, source, id)
                  );
                  CREATE INDEX inbox_by_age ON inbox (seen_at);",
        }
    }

    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned() }
    }

    /// True the first time this event (source, id) is seen; false ever after. Two transactions that bring the same event
    /// at once wait for one another: the second is told false once the first has committed.
    ///
    /// # Errors
    /// As the transaction's statements.
    pub async fn first(&self, tx: &mut Transaction, envelope: &Envelope) -> Result<bool, Error> {
        let inserted = tx
            .execute(
                "INSERT INTO inbox (grp, source, id, seen_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                params![&self.group, &envelope.source, &envelope.id, OffsetDateTime::now_utc()],
            )
            .await?;
        Ok(inserted == 1)
    }

    /// Forgets, in all groups of the database, some of what is older than 14 days at `now`; how many. Call it now and
    /// then: at most a thousand a call, so that it doesn't hold up writers.
    ///
    /// # Errors
    /// As a transaction's.
    pub async fn trim(database: &Database, now: OffsetDateTime) -> Result<u64, Error> {
        let mut tx = database.begin().await?;
        let trimmed = tx
            .execute(
                "DELETE FROM inbox WHERE (grp, source, id) IN
                     (SELECT grp, source, id FROM inbox WHERE seen_at < $1 ORDER BY seen_at LIMIT $2)",
                params![now - REMEMBERED, TRIM_STEP],
            )
            .await?;
        tx.commit().await?;
        Ok(trimmed)
    }
}

#[cfg(test)]
mod tests {
    use database::Url;
    use events::Name;

    use super::*;

    fn envelope(id: &str) -> Envelope {
        Envelope::new("/services/product", Name::new("DB").unwrap(), Name::new("CREATE").unwrap()).id(id)
    }

    async fn first(database: &Database, group: &str, id: &str) -> bool {
        let mut tx = database.begin().await.unwrap();
        let first = Inbox::new(group).first(&mut tx, &envelope(id)).await.unwrap();
        tx.commit().await.unwrap();
        first
    }

    async fn on_both<F: AsyncFn(Database)>(scenario: F) {
        let folder = tempfile::tempdir().unwrap();
        let server = testkit::postgres().await;
        for url in [Url::sqlite(folder.path().join("inbox.db")), Url(server.url())] {
            scenario(Database::open(&url, "inbox", &[Inbox::migration(1)]).await.unwrap()).await;
        }
    }

    #[tokio::test]
    async fn an_event_is_first_once_in_each_group() {
        on_both(async |database| {
            assert!(first(&database, "logger", "1").await);
            assert!(!first(&database, "logger", "1").await);
            assert!(first(&database, "logger", "2").await);
            assert!(first(&database, "notifier", "1").await);
        })
        .await;
    }

    #[tokio::test]
    async fn an_event_whose_transaction_failed_is_first_again() {
        on_both(async |database| {
            let mut tx = database.begin().await.unwrap();
            assert!(Inbox::new("logger").first(&mut tx, &envelope("1")).await.unwrap());
            tx.rollback().await.unwrap();
            assert!(first(&database, "logger", "1").await);
        })
        .await;
    }

    #[tokio::test]
    async fn of_two_deliveries_at_once_one_is_first() {
        on_both(async |database| {
            for id in ["1", "2", "3"] {
                let (one, other) = tokio::join!(first(&database, "logger", id), first(&database, "logger", id));
                assert!(one ^ other);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn only_what_is_old_is_forgotten() {
        on_both(async |database| {
            first(&database, "logger", "1").await;
            let now = OffsetDateTime::now_utc();
            assert_eq!(Inbox::trim(&database, now + Duration::days(13)).await.unwrap(), 0);
            assert!(!first(&database, "logger", "1").await);
            assert_eq!(Inbox::trim(&database, now + Duration::days(15)).await.unwrap(), 1);
            assert!(first(&database, "logger", "1").await);
        })
        .await;
    }
}
