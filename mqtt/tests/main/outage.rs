//! The bus, the MQTT broker or the dispatcher goes away in traffic.

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
