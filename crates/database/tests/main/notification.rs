use std::time::Duration;

use database::Database;
use tokio::time::timeout;

use crate::Place;

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(50);

async fn append(database: &Database) {
    let mut tx = database.begin().await.unwrap();
    tx.wake_relay();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_commit_wakes_every_handle_on_the_database() {
    for place in Place::every().await {
        let (one, other) = (place.open().await, place.open().await);
        append(&one).await;
        timeout(SOON, one.appended()).await.unwrap();
        timeout(SOON, other.appended()).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_before_the_wait_is_not_missed_and_not_seen_twice() {
    let [place, _] = Place::every().await;
    let database = place.open().await;
    append(&database).await;
    append(&database).await;
    timeout(SOON, database.appended()).await.unwrap();
    assert!(timeout(A_WHILE, database.appended()).await.is_err());
}

#[tokio::test]
async fn what_appends_nothing_or_rolls_back_wakes_nobody() {
    for place in Place::every().await {
        let database = place.open().await;
        database.begin().await.unwrap().commit().await.unwrap();
        let mut tx = database.begin().await.unwrap();
        tx.wake_relay();
        tx.rollback().await.unwrap();
        assert!(timeout(A_WHILE, database.appended()).await.is_err());
    }
}

#[tokio::test]
async fn another_process_on_postgresql_is_heard() {
    let [_, place] = Place::every().await;
    let database = place.open().await;
    // Another spelling of the URL has a signal of its own, as another process has.
    let elsewhere = database::Url(format!("{}?application_name=elsewhere", place.url().0));
    let elsewhere = Database::open(&elsewhere, "shelf", &[crate::SHELF]).await.unwrap();
    testkit::eventually("the commit is heard", SOON, async || {
        append(&elsewhere).await;
        timeout(A_WHILE, database.appended()).await.ok()
    })
    .await;
    timeout(SOON, database.close()).await.unwrap();
}
