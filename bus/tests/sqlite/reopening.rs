//! What a life of the file must know of those before it.

use std::time::Duration;

use bus::{Mode, Queue, Standing};

use super::SqliteLab;
use crate::conformance::{Lab as _, ack, claim_one, declare, nack, publish, queue, seconds, settle};

#[tokio::test]
async fn a_clock_set_back_while_the_bus_was_closed_keeps_no_retry_waiting() {
    let mut lab = SqliteLab::open().await;
    declare(&lab.bus, "g", Mode::Parallel).await;
    publish(&lab.bus, &[("a", "k")]).await;
    let leased = claim_one(&lab.bus, "g").await;
    settle(&lab.bus, "g", leased.token, nack()).await.unwrap();
    *lab.clock.0.lock() -= Duration::from_secs(3600);
    lab.kill_and_reopen().await;
    lab.advance(seconds(2)).await;
    let leased = claim_one(&lab.bus, "g").await;
    assert_eq!(leased.attempt, 2);
    ack(&lab.bus, "g", &[leased]).await;
    publish(&lab.bus, &[("b", "k")]).await;
    let page = lab.bus.read(&queue(), 0, 1, 10).await.unwrap();
    assert!(page.events.is_sorted_by_key(|logged| logged.envelope.recordedtime));
}

/// Makes a file of today one of version 2.
const BACK_TO_2: &str = "
ALTER TABLE queue DROP COLUMN max_bytes;
ALTER TABLE queue DROP COLUMN max_len;
ALTER TABLE queue DROP COLUMN overflow;
ALTER TABLE queue DROP COLUMN dedupe_ms;
ALTER TABLE queue DROP COLUMN latest;
ALTER TABLE queue DROP COLUMN realtime;
ALTER TABLE queue DROP COLUMN journal;
ALTER TABLE partition DROP COLUMN bytes;
ALTER TABLE partition DROP COLUMN counted;
ALTER TABLE consumer_group DROP COLUMN claimed;
ALTER TABLE consumer_group DROP COLUMN abandoned;
ALTER TABLE consumer_group DROP COLUMN deaths;
ALTER TABLE consumer_group DROP COLUMN mourned;
ALTER TABLE progress DROP COLUMN lost;
DROP TABLE keeping;
ALTER TABLE consumer_group DROP COLUMN policy;
DROP TABLE latest;
DROP TABLE scheduled;
DROP TABLE attendee;
DROP TABLE seat;
DROP TABLE bookmark;
PRAGMA user_version = 2;
";

#[tokio::test]
async fn a_file_of_version_2_is_brought_up_to_date() {
    let mut lab = SqliteLab::open().await;
    publish(&lab.bus, &[("a", "k")]).await;
    let file = rusqlite::Connection::open(lab.folder.path().join("bus.db")).unwrap();
    file.execute_batch(BACK_TO_2).unwrap();
    lab.kill_and_reopen().await;
    assert_eq!(lab.bus.queues().await.unwrap()[0].settings, Queue::new(queue()));
    assert_eq!(publish(&lab.bus, &[("b", "k")]).await[0].position, Some(2));
}

#[tokio::test]
async fn a_file_of_version_1_is_brought_up_to_date() {
    let mut lab = SqliteLab::open().await;
    declare(&lab.bus, "g", Mode::Parallel).await;
    publish(&lab.bus, &[("a", "k"), ("b", "k")]).await;
    ack(&lab.bus, "g", &[claim_one(&lab.bus, "g").await]).await;
    let file = rusqlite::Connection::open(lab.folder.path().join("bus.db")).unwrap();
    file.execute_batch(BACK_TO_2).unwrap();
    file.execute_batch("ALTER TABLE progress DROP COLUMN start; PRAGMA user_version = 1").unwrap();
    lab.kill_and_reopen().await;
    assert_eq!(lab.bus.standing(&queue(), 0, 1).await.unwrap()["g"], Standing::Acked);
    assert_eq!(claim_one(&lab.bus, "g").await.envelope.id, "b");
}

#[tokio::test]
async fn lives_that_recorded_nothing_make_nobody_forget_one_that_did() {
    let mut lab = SqliteLab::open().await;
    publish(&lab.bus, &[("a", "k")]).await;
    let first = lab.bus.lineage(&queue(), 0).await.unwrap().unwrap();
    for _ in 0..300 {
        lab.kill_and_reopen().await;
    }
    let lineages = lab.bus.lineages(&queue(), 0).await.unwrap();
    assert!(lineages.0.len() <= 256, "bounded");
    assert!(lineages.holds(first.id, 1), "the event is there");
}
