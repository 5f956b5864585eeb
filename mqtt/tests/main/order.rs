//! Several dispatchers: one at a time, or each a part.

use std::{collections::BTreeSet, env, process::Command};

use bus::Bus;
use testkit::{eventually, mosquitto};

use crate::{Running, SOON, device::Device, json, recorded, settings};

const MAPPINGS: &str = r#"{"inbound": [{"topic": "n", "to": "NUMBERS/CAME", "key": "{topic}"}]}"#;
const BUS: &str = "TEST_BUS";
const BROKER: &str = "TEST_BROKER";

async fn numbers(bus: &Bus) -> Vec<u64> {
    recorded(bus, "NUMBERS").await.iter().map(|event| json(event).as_u64().unwrap()).filter(|n| *n > 0).collect()
}

/// A dispatcher that is a process of its own: this test binary, run for one ignored test. It ends with the handle.
struct Process(std::process::Child);

impl Process {
    fn start(redis: &str, broker: &str) -> Self {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "order::dispatch_until_killed"])
            .envs([(BUS, redis), (BROKER, broker)])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "it is the child of the test below"]
async fn dispatch_until_killed() {
    let bus = bus::redis::open(&env::var(BUS).unwrap()).await.unwrap();
    let running = Running::start(&bus, &settings(&env::var(BROKER).unwrap(), MAPPINGS));
    running.work.await.unwrap().unwrap();
}

/// The one whose turn it is stands still for longer than its lease, with messages on their way, and goes on in the midst of
/// the other's work.
#[tokio::test]
async fn a_leader_that_stood_still_writes_nothing_any_more() {
    let (broker, redis) = (mosquitto().await, testkit::redis().await);
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    let device = Device::connect(&broker, "device").await;
    let first = Process::start(&redis.url(), &broker.url());
    eventually("the first one takes messages", SOON, async || {
        device.publish("n", "0").await;
        (!recorded(&bus, "NUMBERS").await.is_empty()).then_some(())
    })
    .await;
    let second = Process::start(&redis.url(), &broker.url());
    let publish = async |range: std::ops::RangeInclusive<u64>| {
        for number in range {
            device.publish("n", &number.to_string()).await;
        }
    };
    publish(1..=100).await;
    first.signal("-STOP");
    publish(101..=200).await;
    eventually("the second one takes over", SOON, async || numbers(&bus).await.contains(&200).then_some(())).await;
    first.signal("-CONT");
    publish(201..=300).await;
    let all = eventually("all are recorded", SOON, async || {
        let all = numbers(&bus).await;
        all.contains(&300).then_some(all)
    })
    .await;
    assert_eq!(all, (1..=300).collect::<Vec<_>>(), "each once, in the order of the broker");
    // And the other way round: the first one is well, and stands by.
    second.signal("-KILL");
    publish(301..=350).await;
    eventually("the first one takes over again", SOON, async || {
        (numbers(&bus).await == (1..=350).collect::<Vec<_>>()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn dispatchers_that_share_take_each_a_part_and_lose_nothing() {
    let (broker, redis) = (mosquitto().await, testkit::redis().await);
    let device = Device::connect(&broker, "device").await;
    let shared = |instance: &str| {
        let mappings = format!(
            r#"{{"order": "shared", "instance": "{instance}", "inbound": [{{"topic": "n/+", "to": "NUMBERS/CAME"}}]}}"#
        );
        settings(&broker.url(), &mappings)
    };
    let mut buses = Vec::new();
    let mut running = Vec::new();
    for instance in ["a", "b", "c"] {
        let bus = bus::redis::open(&redis.url()).await.unwrap();
        running.push(Running::start(&bus, &shared(instance)));
        buses.push(bus);
    }
    let bus = &buses[0];
    eventually("a message comes through", SOON, async || {
        device.publish("n/0", "0").await;
        (!recorded(bus, "NUMBERS").await.is_empty()).then_some(())
    })
    .await;
    for number in 1..=100 {
        device.publish(&format!("n/{number}"), &number.to_string()).await;
    }
    running.remove(0).kill().await;
    for number in 101..=200 {
        device.publish(&format!("n/{number}"), &number.to_string()).await;
    }
    // What the broker holds for it waits for one of its name.
    running.push(Running::start(bus, &shared("a")));
    let all = eventually("all are recorded", SOON, async || {
        let all = numbers(bus).await;
        (all.iter().collect::<BTreeSet<_>>().len() == 200).then_some(all)
    })
    .await;
    assert_eq!(all.len(), 200, "each once");
    for one in running {
        one.drain().await;
    }
}
