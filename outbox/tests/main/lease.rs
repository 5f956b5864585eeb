use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use outbox::Relay;
use time::OffsetDateTime;

use crate::{SOURCE, Shop, Working, all_sent, log, logged, update, versions};

/// Seconds since 1970, set by the test.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn at(second: i64) -> Self {
        Self(Arc::new(AtomicI64::new(second)))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn tells(&self) -> impl Fn() -> OffsetDateTime + Send + Sync + 'static {
        let clock = self.0.clone();
        move || OffsetDateTime::from_unix_timestamp(clock.load(Ordering::SeqCst)).unwrap()
    }
}

#[tokio::test]
async fn two_relays_on_one_database_publish_each_event_once() {
    for shop in Shop::every().await {
        let bus = shop.bus().await;
        let (one, other) = (shop.database().await, shop.database().await);
        let first = Working::start(Relay::new(one.clone(), bus.clone(), SOURCE));
        let second = Working::start(Relay::new(other.clone(), bus.clone(), SOURCE));
        for turn in 0..40 {
            update(if turn % 2 == 0 { &one } else { &other }, "lamp").await;
        }
        let log = logged(&bus, 40).await;
        assert!(versions(&log, "lamp").into_iter().eq(1..=40));
        first.drain().await;
        update(&other, "lamp").await;
        logged(&bus, 41).await;
        second.drain().await;
    }
}

#[tokio::test]
async fn a_dead_relays_lease_is_taken_over_when_it_runs_out() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let clock = Clock::at(2_000_000_000);
        let dead = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        update(&database, "lamp").await;
        all_sent(&database).await;
        dead.kill().await;

        update(&database, "lamp").await;
        let heir = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        clock.advance(4);
        // Some rounds of the heir: it has to leave it alone.
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(log(&bus).await.len(), 1);
        clock.advance(2);
        logged(&bus, 2).await;
        heir.drain().await;
    }
}

#[tokio::test]
async fn a_drained_relay_leaves_nothing_behind_and_no_lease() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let clock = Clock::at(2_000_000_000);
        let first = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        update(&database, "lamp").await;
        all_sent(&database).await;
        update(&database, "lamp").await;
        first.drain().await;
        logged(&bus, 2).await;
        update(&database, "lamp").await;
        let second = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        logged(&bus, 3).await;
        second.drain().await;
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_keep_a_dead_relays_lease_alive() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let clock = Clock::at(2_000_000_000);
        let dead = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        update(&database, "lamp").await;
        all_sent(&database).await;
        dead.kill().await;

        update(&database, "lamp").await;
        clock.advance(-3600);
        let heir = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE).clock(clock.tells()));
        logged(&bus, 2).await;
        heir.drain().await;
    }
}
