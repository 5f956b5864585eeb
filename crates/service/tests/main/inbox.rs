//! What a service that consumes remembers of it.

use bus::Inbox;
use database::{Database, params};
use testkit::eventually;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use crate::shell::{SOON, build, config};

#[tokio::test]
async fn what_was_taken_in_long_ago_is_forgotten() {
    let (folder, root) = (tempfile::tempdir().unwrap(), principal::RootSecret::generate());
    let config = config(&folder, &root).await;
    let migrations = [outbox::migration(9001), Inbox::migration(9002)];
    let database = Database::open(&config.database, "desk", &migrations).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let mut tx = database.begin().await.unwrap();
    for (id, seen) in [("old", now - Duration::days(15)), ("new", now)] {
        let sql = "INSERT INTO inbox (grp, source, id, seen_at) VALUES ('desk', '/services/product', $1, $2)";
        tx.execute(sql, params![id, seen]).await.unwrap();
    }
    tx.commit().await.unwrap();

    let (_, service) = build(config).await.unwrap();
    let shutdown = lifecycle::Shutdown::new();
    let running = tokio::spawn(lifecycle::Role::run(Box::new(service), shutdown.clone()));
    eventually("the old one is forgotten", SOON, async || {
        let rows = database.query("SELECT id FROM inbox", &[]).await.unwrap();
        let left: Vec<String> = rows.iter().map(|row| row.get("id").unwrap()).collect();
        (left == ["new"]).then_some(())
    })
    .await;
    shutdown.begin(SOON);
    timeout(SOON, running).await.unwrap().unwrap().unwrap();
}
