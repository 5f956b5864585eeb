//! Whoever waits for a transaction may go at any moment: a caller hangs up, a drain ends.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use database::params;

use crate::Place;

/// Polls a future at most so often, then drops it where it is; true if it was done.
async fn abandon_after(polls: usize, work: impl Future<Output = ()>) -> bool {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| {
        if left > 0 && work.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_transaction_abandoned_at_any_point_holds_nobody_up() {
    for place in Place::every().await {
        let database = place.open().await;
        for polls in 0.. {
            let done = abandon_after(polls, async {
                let mut tx = database.begin().await.unwrap();
                let sql = "INSERT INTO item (name) VALUES ($1) ON CONFLICT DO NOTHING";
                tx.execute(sql, params!["lamp"]).await.unwrap();
                tx.query("SELECT name FROM item", &[]).await.unwrap();
                tx.commit().await.unwrap();
            })
            .await;
            let began = Instant::now();
            let tx = database.begin().await.unwrap_or_else(|error| panic!("after {polls} polls: {error}"));
            tx.rollback().await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(2), "after {polls} polls");
            if done {
                break;
            }
        }
    }
}
