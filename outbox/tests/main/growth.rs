//! What the relay does may not depend on how many rows are kept that the bus has.

use std::time::{Duration, Instant};

use database::params;
use outbox::Relay;

use crate::{SOURCE, Shop, Working, all_sent, logged, update};

/// Far fewer than a week's.
const KEPT: i64 = 100_000;
const MORE: usize = 50;

/// What a relay takes for events that are committed one after the other, each once the one before was sent.
async fn relay_one_by_one(shop: &Shop, bus: &bus::Bus) -> Duration {
    let database = shop.database().await;
    let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
    let began = Instant::now();
    for _ in 0..MORE {
        update(&database, "lamp").await;
        all_sent(&database).await;
    }
    let took = began.elapsed();
    relay.drain().await;
    database.close().await;
    took
}

#[tokio::test]
async fn rows_that_are_kept_slow_nothing_down() {
    for shop in Shop::every().await {
        let bus = shop.bus().await;
        let without = relay_one_by_one(&shop, &bus).await;
        let database = shop.database().await;
        let mut tx = database.begin().await.unwrap();
        tx.execute(
            "INSERT INTO outbox (id, queue, event, key, source, headers, data, created_at, sent_partition, publish_no,
                 sent_lineage, sent_position, sent_at)
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $1)
             SELECT 'kept', queue, event, key, source, headers, data, created_at, sent_partition, -n, sent_lineage,
                 sent_position, sent_at FROM n, outbox WHERE publish_no = 1",
            params![KEPT],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let with = relay_one_by_one(&shop, &bus).await;
        logged(&bus, 2 * MORE).await;
        assert!(with < without * 4, "{with:?} with them, {without:?} without");
    }
}
