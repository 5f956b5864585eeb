//! F19: a relay that is paused in the middle of a batch, while another one takes over and goes on, then resumed.

use std::sync::Arc;

use bus::Bus;
use database::{Database, params};
use outbox::{Event, Relay};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    SOURCE, Shop, Working, all_sent,
    away::{Network, Pause, Weather},
    lease::Clock,
    logged, versions,
};

/// Sets products' next versions up and tells of all, in one transaction: they are one batch.
async fn update(database: &Database, ids: &[&str]) {
    let mut tx = database.begin().await.unwrap();
    for id in ids {
        let sql = "INSERT INTO product (id, version) VALUES ($1, 1)
                   ON CONFLICT (id) DO UPDATE SET version = product.version + 1 RETURNING version";
        let version: i64 = tx.query(sql, params![*id]).await.unwrap()[0].get("version").unwrap();
        let event = Event::new("DB/UPDATE", format!("products/{id}"), json!({ "version": version }));
        outbox::append(&mut tx, SOURCE, event).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn pauses_and_is_taken_over(shop: &Shop, bus: &Bus, weather: &Weather, before: bool) {
    let (database, other) = (shop.database().await, shop.database().await);
    let clock = Clock::at(2_000_000_000);
    let first = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
    update(&database, &["lamp", "desk"]).await;
    all_sent(&database).await;

    let (reached, resume) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    *weather.pause.lock().unwrap() = Some(Pause { before, reached: reached.clone(), resume: resume.clone() });
    update(&database, &["lamp", "desk", "lamp", "lamp", "desk"]).await;
    tokio::time::timeout(crate::SOON, reached.acquire()).await.unwrap().unwrap().forget();
    update(&database, &["desk", "lamp"]).await;
    clock.advance(6);
    let second = Working::start(Relay::new(other.clone(), bus.clone(), SOURCE).clock(clock.tells()));
    all_sent(&other).await;
    logged(bus, 9).await;

    // It knows nothing of that: what it was about to publish is published, what it was about to mark isn't marked.
    resume.add_permits(1);
    update(&other, &["lamp", "desk"]).await;
    all_sent(&other).await;
    second.drain().await;
    // It is its turn again.
    update(&database, &["desk", "lamp"]).await;
    all_sent(&database).await;
    first.drain().await;
    let log = logged(bus, 13).await;
    assert!(versions(&log, "lamp").into_iter().eq(1..=7), "{:?}", versions(&log, "lamp"));
    assert!(versions(&log, "desk").into_iter().eq(1..=6), "{:?}", versions(&log, "desk"));
}

#[tokio::test]
async fn a_paused_relay_that_goes_on_repeats_and_loses_nothing_on_sqlite() {
    for before in [true, false] {
        for shop in Shop::every().await {
            let (bus, weather) = Network::to_the_bus_of(&shop).await;
            pauses_and_is_taken_over(&shop, &bus, &weather, before).await;
        }
    }
}

#[tokio::test]
async fn a_paused_relay_that_goes_on_repeats_and_loses_nothing_on_redis() {
    for before in [true, false] {
        for shop in Shop::every().await {
            let server = testkit::redis().await;
            let redis = bus::redis::Redis::open(server.url().as_str(), bus::redis::Options::default()).await.unwrap();
            let weather = Arc::new(Weather::default());
            pauses_and_is_taken_over(&shop, &Network::to(redis, &weather), &weather, before).await;
        }
    }
}
