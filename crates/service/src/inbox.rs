//! Keeping the inbox of a service that consumes from growing for ever.

use std::time::Duration;

use bus::Inbox;
use database::Database;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(600);

/// Forgets what is old, at the start and every ten minutes, until `drain`.
pub(crate) async fn trim(database: Database, drain: CancellationToken) {
    let mut due = tokio::time::interval(EVERY);
    loop {
        let trim = async {
            due.tick().await;
            forget_all(&database).await
        };
        tokio::select! {
            () = drain.cancelled() => return,
            trimmed = trim => if let Err(error) = trimmed {
                tracing::warn!(%error, "the inbox is not trimmed at the moment");
            },
        }
    }
}

async fn forget_all(database: &Database) -> Result<(), database::Error> {
    // A piece at a time, so that others get their turn to write.
    while Inbox::trim(database, OffsetDateTime::now_utc()).await? > 0 {}
    Ok(())
}
