use bus::Queue;
use events::Name;
use outbox::Relay;

use crate::{SOURCE, Shop, Working, logged, update, versions};

const WRITERS: usize = 8;
const UPDATES: usize = 20;
const PRODUCTS: [&str; 3] = ["a", "b", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_keeps_the_order_of_its_commits_under_concurrent_writers() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        write_all(&shop).await;
        let log = logged(&bus, WRITERS * UPDATES).await;
        for product in PRODUCTS {
            let versions = versions(&log, product);
            assert!(versions.iter().copied().eq(1..=versions.len() as i64), "{product}: {versions:?}");
        }
        relay.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_keeps_its_order_over_partitions() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        bus.declare_queue(Queue { partitions: 4, ..Queue::new(Name::new("DB").unwrap()) }).await.unwrap();
        write_all(&shop).await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        let log = logged(&bus, WRITERS * UPDATES).await;
        for product in PRODUCTS {
            let versions = versions(&log, product);
            assert!(versions.iter().copied().eq(1..=versions.len() as i64), "{product}: {versions:?}");
        }
        relay.drain().await;
    }
}

async fn write_all(shop: &Shop) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let database = shop.database().await;
        writers.spawn(async move {
            for turn in 0..UPDATES {
                update(&database, PRODUCTS[(writer + turn) % PRODUCTS.len()]).await;
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
}
