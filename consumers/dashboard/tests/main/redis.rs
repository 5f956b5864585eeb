//! What only a bus on Redis does: it goes away and comes back, forgets everything, or some of it.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use bus::{Bus, Queue};
use events::Name;
use serde_json::{Value, json};
use testkit::{Aof, Redis, RedisOptions, eventually};

use crate::{Past, Running, SOON, Site, counts, created};

async fn live(dashboard: &Running) {
    eventually("the queue is followed", SOON, async || {
        (dashboard.snapshot().await["queues"]["DB"]["state"]["state"] == "live").then_some(())
    })
    .await;
}

async fn away(dashboard: &Running) {
    eventually("the queue isn't followed", SOON, async || {
        (dashboard.snapshot().await["queues"]["DB"]["state"]["state"] == "away").then_some(())
    })
    .await;
}

/// A bus is back when it takes an event; who gets no answer sends the same again.
async fn publish(site: &Site, numbers: std::ops::Range<usize>) {
    let events = created(numbers);
    eventually("the bus is back", SOON, async || {
        let outcomes = site.bus.publish(events.clone()).await.ok()?;
        outcomes.iter().all(Result::is_ok).then_some(())
    })
    .await;
}

fn places(snapshot: &Value) -> Vec<String> {
    let recent = snapshot["recent"].as_array().unwrap();
    recent.iter().map(|event| format!("{}/{}", event["partition"], event["position"])).collect()
}

#[tokio::test]
async fn a_bus_that_was_away_is_gone_on_with() {
    let mut site = Site::on_redis().await;
    let dashboard = site.start().await;
    publish(&site, 0..30).await;
    dashboard.counted("CREATE", 30).await;
    site.redis.as_mut().unwrap().kill();
    away(&dashboard).await;
    assert_eq!(counts(&dashboard.snapshot().await, "CREATE"), 30, "what was counted is shown");
    site.redis.as_mut().unwrap().restart().await;
    publish(&site, 30..40).await;
    let snapshot = dashboard.counted("CREATE", 40).await;
    live(&dashboard).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({}));
    let places = places(&snapshot);
    assert_eq!(places.len(), 40, "{places:?}");
    assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 40, "an event is shown twice: {places:?}");
    dashboard.drain().await;
}

#[tokio::test]
async fn a_bus_that_forgot_everything_is_told_and_the_counts_go_on() {
    let site = Site::on_redis().await;
    let dashboard = site.start().await;
    publish(&site, 0..20).await;
    dashboard.counted("CREATE", 20).await;
    let url = site.redis.as_ref().unwrap().url();
    assert!(Command::new("redis-cli").args(["-u", &url, "FLUSHALL"]).output().unwrap().status.success());
    publish(&site, 20..25).await;
    let snapshot = dashboard.counted("CREATE", 25).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({ "reset": { "gaps": 1, "events": 0, "unknown": 1 } }));
    dashboard.drain().await;
    let second = site.start().await;
    let snapshot = second.counted("CREATE", 25).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({ "reset": { "gaps": 1, "events": 0, "unknown": 1 } }));
    second.drain().await;
}

#[tokio::test]
async fn a_bus_that_forgot_the_last_events_is_told_by_how_many() {
    let mut site = Site::sqlite().await;
    let server = Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
    let url = server.url();
    site.bus = bus::redis::open(&url).await.unwrap();
    site.redis = Some(server);
    let dashboard = site.start().await;
    publish(&site, 0..20).await;
    dashboard.counted("CREATE", 20).await;
    assert!(Command::new("redis-cli").args(["-u", &url, "SAVE"]).output().unwrap().status.success());
    publish(&site, 20..27).await;
    dashboard.counted("CREATE", 27).await;
    let server = site.redis.as_mut().unwrap();
    server.kill();
    server.restart().await;
    publish(&site, 27..30).await;
    let snapshot = dashboard.counted("CREATE", 30).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({ "lineage": { "gaps": 1, "events": 7, "unknown": 0 } }));
    dashboard.drain().await;
    let second = site.start().await;
    let snapshot = second.counted("CREATE", 30).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"]["lineage"]["events"], 7);
    second.drain().await;
}

#[tokio::test]
async fn what_was_trimmed_before_its_first_start_is_told_whatever_the_server_went_through() {
    let mut site = Site::on_redis().await;
    let (url, clock) = (site.redis.as_ref().unwrap().url(), Arc::new(Past(AtomicI64::new(7_200))));
    let options = bus::redis::Options { clock: Some(clock.clone()), ..Default::default() };
    let backend = bus::redis::Redis::open(&url, options).await.unwrap();
    site.bus = Bus::new(backend.clone());
    let queue = Queue { max_age: Duration::from_secs(3_600), partitions: 3, ..Queue::new(Name::new("DB").unwrap()) };
    site.bus.declare_queue(queue).await.unwrap();
    publish(&site, 0..70).await;
    let server = site.redis.as_mut().unwrap();
    server.kill();
    server.restart().await;
    clock.behind(0);
    publish(&site, 70..90).await;
    eventually("old events are trimmed", SOON, async || {
        backend.housekeep().await.ok()?;
        let queues = site.bus.queues().await.ok()?;
        let gone: u64 = queues.first()?.partitions.iter().map(|partition| partition.floor - 1).sum();
        (gone == 70).then_some(())
    })
    .await;
    let dashboard = site.start().await;
    let snapshot = dashboard.counted("CREATE", 20).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({ "before": { "gaps": 1, "events": 70, "unknown": 0 } }));
    dashboard.drain().await;
}
