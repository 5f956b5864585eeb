use std::fs;

use outbox::Relay;

use crate::{SOURCE, Shop, Working, all_sent, logged, open_bus, update, versions};

async fn update_and_relay(shop: &Shop, bus: &bus::Bus, times: usize) {
    let database = shop.database().await;
    let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
    for _ in 0..times {
        update(&database, "lamp").await;
    }
    all_sent(&database).await;
    relay.drain().await;
    database.close().await;
}

#[tokio::test]
async fn a_restarted_bus_that_lost_nothing_gets_nothing_twice() {
    for shop in Shop::every().await {
        for round in 1..=3 {
            let bus = shop.bus().await;
            update_and_relay(&shop, &bus, 5).await;
            logged(&bus, 5 * round).await;
        }
    }
}

#[tokio::test]
async fn a_bus_that_lost_everything_gets_everything_again_in_order() {
    for shop in Shop::every().await {
        let bus = shop.bus().await;
        update_and_relay(&shop, &bus, 300).await;
        let before = logged(&bus, 300).await;
        drop(bus);
        let empty = open_bus(shop.folder.path().join("another.db")).await;
        let database = shop.database().await;
        // Nothing is appended: the relay notices by itself.
        let relay = Working::start(Relay::new(database.clone(), empty.clone(), SOURCE));
        let after = logged(&empty, 300).await;
        assert!(versions(&after, "lamp").into_iter().eq(1..=300));
        let ids = |log: &[events::Envelope]| log.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&after), "the same events");
        update(&database, "lamp").await;
        logged(&empty, 301).await;
        relay.drain().await;
    }
}

#[tokio::test]
async fn a_bus_restored_from_a_copy_gets_again_what_lay_beyond_the_cut() {
    for shop in Shop::every().await {
        let bus = shop.bus().await;
        update_and_relay(&shop, &bus, 5).await;
        drop(bus);
        // The bus goes on after the copy, and is then restored from it.
        let old = shop.folder.path().join("old.db");
        copy_when_closed(&shop, &old).await;
        let bus = shop.bus().await;
        update_and_relay(&shop, &bus, 7).await;
        logged(&bus, 12).await;
        drop(bus);
        let restored = open_bus(old).await;
        update_and_relay(&shop, &restored, 1).await;
        let log = logged(&restored, 13).await;
        assert!(versions(&log, "lamp").into_iter().eq(1..=13));
    }
}

#[tokio::test]
async fn a_database_restored_from_a_copy_loses_none_of_its_new_events() {
    let [shop, _] = Shop::every().await;
    let bus = shop.bus().await;
    update_and_relay(&shop, &bus, 2).await;
    let (file, copy) = (shop.folder.path().join("product.db"), shop.folder.path().join("copy.db"));
    fs::copy(&file, &copy).unwrap();
    update_and_relay(&shop, &bus, 3).await;
    for leftover in ["product.db-wal", "product.db-shm"] {
        let _ = fs::remove_file(shop.folder.path().join(leftover));
    }
    fs::copy(&copy, &file).unwrap();
    // Versions 3 to 6 happen again, under other ids, and with publish numbers that the bus has.
    update_and_relay(&shop, &bus, 4).await;
    let log = logged(&bus, 9).await;
    assert_eq!(versions(&log, "lamp"), [1, 2, 3, 4, 5, 3, 4, 5, 6]);
}

/// Copies the bus's file once nobody writes it any more.
async fn copy_when_closed(shop: &Shop, to: &std::path::Path) {
    testkit::eventually("the log is folded into its file", crate::SOON, async || {
        let wal = fs::metadata(shop.bus_file().with_extension("db-wal"));
        wal.map_or(true, |wal| wal.len() == 0).then_some(())
    })
    .await;
    fs::copy(shop.bus_file(), to).unwrap();
}
