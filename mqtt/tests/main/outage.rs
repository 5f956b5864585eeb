//! The bus, the MQTT broker or the dispatcher goes away in traffic.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use testkit::{Aof, RedisOptions, eventually, mosquitto};

use crate::{Running, SOON, comes_to, device::Device, json, recorded, settings, sqlite};

const MAPPINGS: &str = r#"{"inbound": [{"topic": "n", "to": "NUMBERS/CAME", "key": "{topic}"}]}"#;

fn numbers(events: &[events::Envelope]) -> Vec<u64> {
    events.iter().map(|event| json(event).as_u64().unwrap()).collect()
}

/// Once this is heard, the broker keeps what comes for the dispatcher, whether it is there or not.
async fn subscribed(device: &Device, bus: &bus::Bus) {
    eventually("a message comes through", SOON, async || {
        device.publish("n", "0").await;
        (!recorded(bus, "NUMBERS").await.is_empty()).then_some(())
    })
    .await;
}

/// The events behind those that only probed.
async fn behind_probes(bus: &bus::Bus, count: u64) -> Vec<u64> {
    eventually(&format!("{count} are recorded"), SOON, async || {
        let all: Vec<u64> = numbers(&recorded(bus, "NUMBERS").await).into_iter().filter(|n| *n > 0).collect();
        all.contains(&count).then_some(all)
    })
    .await
}

#[tokio::test]
async fn while_the_bus_is_away_messages_wait_and_come_in_their_order() {
    let broker = mosquitto().await;
    let mut redis = testkit::Redis::start(RedisOptions { aof: Aof::Always, ..RedisOptions::default() }).await;
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    let running = Running::start(&bus, &settings(&broker.url(), MAPPINGS));
    let device = Device::connect(&broker, "device").await;
    subscribed(&device, &bus).await;
    redis.kill();
    for number in 1..=50 {
        device.publish("n", &number.to_string()).await;
    }
    redis.restart().await;
    assert_eq!(behind_probes(&bus, 50).await, (1..=50).collect::<Vec<_>>());
    running.drain().await;
}

#[tokio::test]
async fn a_dispatcher_that_is_killed_again_and_again_records_each_message_once() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let settings = settings(&broker.url(), MAPPINGS);
    let device = Device::connect(&broker, "device").await;
    let mut running = Running::start(&bus, &settings);
    subscribed(&device, &bus).await;
    for round in 0..5 {
        for number in 1..=40 {
            device.publish("n", &(round * 40 + number).to_string()).await;
        }
        // In the midst of them, or behind.
        running.kill().await;
        running = Running::start(&bus, &settings);
    }
    assert_eq!(behind_probes(&bus, 200).await, (1..=200).collect::<Vec<_>>());
    running.drain().await;
}

#[tokio::test]
async fn a_mapping_that_is_added_later_is_subscribed_to() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let device = Device::connect(&broker, "device").await;
    let running = Running::start(&bus, &settings(&broker.url(), MAPPINGS));
    subscribed(&device, &bus).await;
    running.drain().await;
    let more = r#"{"inbound": [{"topic": "n", "to": "NUMBERS/CAME"}, {"topic": "m", "to": "MORE/CAME"}]}"#;
    let running = Running::start(&bus, &settings(&broker.url(), more));
    eventually("a message of the new topic comes through", SOON, async || {
        device.publish("m", "1").await;
        (!recorded(&bus, "MORE").await.is_empty()).then_some(())
    })
    .await;
    running.drain().await;
}

/// The payloads of what was rejected, and their topics.
async fn rejected(bus: &bus::Bus) -> Vec<(String, String)> {
    let rejected = recorded(bus, "MQTT").await;
    let text = |event: &events::Envelope, field: &str| json(event)[field].as_str().unwrap().to_owned();
    let payload = |event| String::from_utf8(BASE64_STANDARD.decode(text(event, "payload_base64")).unwrap()).unwrap();
    rejected.iter().map(|event| (text(event, "topic"), payload(event))).collect()
}

/// Sends on `m` and on `n` until nothing comes by `m` any more, though it does by `n`.
async fn comes_no_more(device: &Device, bus: &bus::Bus) {
    let numbers = AtomicU64::new(1000);
    eventually("only what is mapped comes", SOON, async || {
        let number = numbers.fetch_add(1, Relaxed);
        device.publish("m", &number.to_string()).await;
        device.publish("n", &number.to_string()).await;
        behind_probes(bus, number).await;
        let all = rejected(bus).await;
        (!all.contains(&("m".to_owned(), number.to_string()))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mapping_that_is_taken_out_is_unsubscribed_from() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let device = Device::connect(&broker, "device").await;
    let both = r#"{"inbound": [{"topic": "n", "to": "NUMBERS/CAME"}, {"topic": "m", "to": "MORE/CAME"}]}"#;
    let running = Running::start(&bus, &settings(&broker.url(), both));
    eventually("a message comes through", SOON, async || {
        device.publish("m", "0").await;
        (!recorded(&bus, "MORE").await.is_empty()).then_some(())
    })
    .await;
    running.drain().await;
    // The broker holds this for a mapping that won't be there any more: it is not lost.
    device.publish("m", "7").await;
    let running = Running::start(&bus, &settings(&broker.url(), MAPPINGS));
    comes_no_more(&device, &bus).await;
    assert!(rejected(&bus).await.contains(&("m".to_owned(), "7".to_owned())));
    running.drain().await;
}

#[tokio::test]
async fn where_nothing_is_mapped_any_more_nothing_stays_subscribed() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let device = Device::connect(&broker, "device").await;
    let running = Running::start(&bus, &settings(&broker.url(), MAPPINGS));
    subscribed(&device, &bus).await;
    running.drain().await;
    device.publish("n", "7").await;
    let running = Running::start(&bus, &settings(&broker.url(), "{}"));
    eventually("what the broker held is rejected", SOON, async || {
        rejected(&bus).await.contains(&("n".to_owned(), "7".to_owned())).then_some(())
    })
    .await;
    eventually("it is noted that there is nothing", SOON, async || {
        let noted = bus.bookmarks("/mqtt/turnpike").await.unwrap();
        (noted[0].cursor.as_deref() == Some("[]")).then_some(())
    })
    .await;
    running.drain().await;
    // The broker keeps nothing for it.
    device.publish("n", "8").await;
    let running = Running::start(&bus, &settings(&broker.url(), MAPPINGS));
    let all = eventually("it is subscribed to again", SOON, async || {
        device.publish("n", "9").await;
        let all = numbers(&recorded(&bus, "NUMBERS").await);
        all.contains(&9).then_some(all)
    })
    .await;
    assert!(!all.contains(&8), "{all:?}");
    running.drain().await;
}

#[tokio::test]
async fn what_is_rejected_is_kept_once_however_often_the_dispatcher_is_killed() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let strict = r#"{"inbound": [{"topic": "n", "to": "NUMBERS/CAME", "data": "json"}]}"#;
    let settings = settings(&broker.url(), strict);
    let device = Device::connect(&broker, "device").await;
    let mut running = Running::start(&bus, &settings);
    subscribed(&device, &bus).await;
    for round in 0..5 {
        for number in 0..40 {
            device.publish("n", &format!("no json {}", round * 40 + number)).await;
        }
        running.kill().await;
        running = Running::start(&bus, &settings);
    }
    let all = eventually("all are rejected", SOON, async || {
        let all: Vec<String> = rejected(&bus).await.into_iter().map(|(_, payload)| payload).collect();
        all.contains(&"no json 199".to_owned()).then_some(all)
    })
    .await;
    assert_eq!(all, (0..200).map(|number| format!("no json {number}")).collect::<Vec<_>>());
    running.drain().await;
}

#[tokio::test]
async fn what_came_while_no_dispatcher_was_there_is_taken_later() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let settings = settings(&broker.url(), MAPPINGS);
    let device = Device::connect(&broker, "device").await;
    let running = Running::start(&bus, &settings);
    subscribed(&device, &bus).await;
    running.drain().await;
    for number in 1..=20 {
        device.publish("n", &number.to_string()).await;
    }
    broker.restart().await;
    let running = Running::start(&bus, &settings);
    assert_eq!(behind_probes(&bus, 20).await, (1..=20).collect::<Vec<_>>());
    running.drain().await;
    comes_to(&bus, "NUMBERS", 20).await;
}
