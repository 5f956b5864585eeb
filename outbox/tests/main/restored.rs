//! A database that was restored from a copy taken while the relay was at work.

use std::fs;

use outbox::Relay;

use crate::{SOURCE, Shop, Working, all_sent, logged, update, versions};

/// Commits updates, then relays them.
async fn update_then_relay(shop: &Shop, bus: &bus::Bus, times: usize) {
    let database = shop.database().await;
    for _ in 0..times {
        update(&database, "lamp").await;
    }
    let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
    all_sent(&database).await;
    relay.drain().await;
    database.close().await;
}

#[tokio::test]
async fn a_copy_taken_between_publish_and_mark_publishes_its_new_events_once_and_in_order() {
    let [shop, _] = Shop::every().await;
    let bus = shop.bus().await;
    update_then_relay(&shop, &bus, 2).await;
    let (file, copy) = (shop.folder.path().join("product.db"), shop.folder.path().join("copy.db"));
    fs::copy(&file, &copy).unwrap();
    update_then_relay(&shop, &bus, 3).await;
    for leftover in ["product.db-wal", "product.db-shm"] {
        let _ = fs::remove_file(shop.folder.path().join(leftover));
    }
    fs::copy(&copy, &file).unwrap();
    let database = shop.database().await;
    let mut tx = database.begin().await.unwrap();
    let unmark = "UPDATE outbox SET sent_lineage = NULL, sent_position = NULL, sent_at = NULL WHERE publish_no = 2";
    assert_eq!(tx.execute(unmark, &[]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    database.close().await;
    // The bus has this database's second event, then three that it doesn't know of.
    update_then_relay(&shop, &bus, 6).await;
    let log = logged(&bus, 11).await;
    assert_eq!(versions(&log, "lamp"), [1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]);
}
