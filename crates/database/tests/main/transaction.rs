use std::time::Duration;

use database::{Engine, Error, params};
use testkit::eventually;

use crate::{Place, items};

const INSERT: &str = "INSERT INTO item (name, quantity) VALUES ($1, 0)";

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    for place in Place::every().await {
        let database = place.open().await;
        let mut tx = database.begin().await.unwrap();
        tx.execute(INSERT, params!["lamp"]).await.unwrap();
        drop(tx);
        let mut tx = database.begin().await.unwrap();
        tx.execute(INSERT, params!["lamp"]).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(items(&database).await, 0);
    }
}

#[tokio::test]
async fn a_committed_transaction_is_seen_by_the_next_read() {
    for place in Place::every().await {
        let database = place.open().await;
        for round in 1..=20_i64 {
            let mut tx = database.begin().await.unwrap();
            tx.execute(INSERT, params![round.to_string()]).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(items(&database).await, round);
        }
    }
}

#[tokio::test]
async fn concurrent_increments_under_a_row_lock_are_all_counted() {
    for place in Place::every().await {
        let (one, other) = (place.open().await, place.open().await);
        let mut tx = one.begin().await.unwrap();
        tx.execute(INSERT, params!["lamp"]).await.unwrap();
        tx.commit().await.unwrap();
        let writers: Vec<_> = (0..20)
            .map(|turn| {
                let database = if turn % 2 == 0 { one.clone() } else { other.clone() };
                tokio::spawn(async move {
                    let mut tx = database.begin().await.unwrap();
                    let sql = "SELECT quantity FROM item WHERE name = $1 FOR UPDATE";
                    let quantity: i64 = tx.query(sql, params!["lamp"]).await.unwrap()[0].get("quantity").unwrap();
                    tx.execute("UPDATE item SET quantity = $1", params![quantity + 1]).await.unwrap();
                    tx.commit().await.unwrap();
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let rows = one.query("SELECT quantity FROM item", &[]).await.unwrap();
        assert_eq!(rows[0].get::<i64>("quantity").unwrap(), 20);
    }
}

#[tokio::test]
async fn an_abandoned_begin_does_not_hold_the_lock() {
    for place in Place::every().await {
        let database = place.open().await;
        let holder = database.begin().await.unwrap();
        for _ in 0..5 {
            assert!(
                tokio::time::timeout(Duration::from_millis(20), async {
                    let tx = database.begin().await;
                    std::future::pending::<()>().await;
                    drop(tx);
                })
                .await
                .is_err()
            );
        }
        drop(holder);
        let mut tx = database.begin().await.unwrap();
        tx.execute(INSERT, params!["lamp"]).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told_to_come_again() {
    let [place, _] = Place::every().await;
    assert_eq!(place.engine(), Engine::Sqlite);
    let (one, other) = (place.open().await, place.open().await);
    let _holder = one.begin().await.unwrap();
    assert!(matches!(other.begin().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_reader_outside_a_transaction_can_not_write() {
    let [place, _] = Place::every().await;
    let database = place.open().await;
    assert!(database.query(INSERT, params!["lamp"]).await.is_err());
}

#[tokio::test]
async fn a_server_that_died_is_unavailable() {
    let [_, place] = Place::every().await;
    let database = place.open().await;
    let Place::Postgres(mut server) = place else { panic!("the second is PostgreSQL") };
    server.kill();
    eventually("every pooled connection is known to be dead", Duration::from_secs(20), async || {
        match database.query("SELECT count(*) AS items FROM item", &[]).await {
            Err(Error::Unavailable(_)) => Some(()),
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert!(matches!(database.begin().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_closed_database_is_unavailable() {
    for place in Place::every().await {
        let database = place.open().await;
        database.clone().close().await;
        assert!(matches!(database.begin().await, Err(Error::Unavailable(_))));
        assert!(matches!(database.query("SELECT 1 AS one", &[]).await, Err(Error::Unavailable(_))));
    }
}
