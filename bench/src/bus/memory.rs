//! What 100,000 keys and 1,000 groups cost in memory: of the server, and of the process that holds the bus.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use bus::{Bus, Claim, Group, Mode, Queue, Settlement, Verb};
use events::{Envelope, Name};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};

use super::{
    DATA,
    contestant::padding,
    jetstream::{self, JetStream},
};

const KEYS: usize = 100_000;
const GROUPS: usize = 1_000;
const BATCH: usize = 250;

/// Bytes a key and a group, beside what an event itself takes.
struct Cost {
    name: &'static str,
    server: Option<(f64, f64)>,
    process: Option<(f64, f64)>,
}

/// `server`: an empty one, for each of the two that use it.
pub async fn contest(folder: &Path, raw: &str, server: &str) -> anyhow::Result<()> {
    let costs = [
        raw_redis(raw).await?,
        redis(server).await?,
        sqlite(&folder.join("memory.db")).await?,
        nats(&folder.join("memory")).await?,
    ];
    println!("memory of {KEYS} events of a key each ({DATA} bytes of data), then of {GROUPS} groups, bytes each");
    println!(
        "{:<20} {:>16} {:>18} {:>16} {:>18}",
        "", "server, a key", "server, a group", "process, a key", "process, a group"
    );
    for Cost { name, server, process } in costs {
        let text = |cost: Option<f64>| cost.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
        println!(
            "{name:<20} {:>16} {:>18} {:>16} {:>18}",
            text(server.map(|(key, _)| key)),
            text(server.map(|(_, group)| group)),
            text(process.map(|(key, _)| key)),
            text(process.map(|(_, group)| group)),
        );
    }
    Ok(())
}

async fn redis(url: &str) -> anyhow::Result<Cost> {
    let mut asking = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let bus = bus::redis::open(url).await?;
    let (server, process) = (used(&mut asking).await?, resident()?);
    publish(&bus).await?;
    let (with_keys, process_with_keys) = (used(&mut asking).await?, resident()?);
    declare(&bus).await?;
    let (with_groups, process_with_groups) = (used(&mut asking).await?, resident()?);
    Ok(Cost {
        name: "redis",
        server: Some(each(server, with_keys, with_groups)),
        process: Some(each(process, process_with_keys, process_with_groups)),
    })
}

async fn sqlite(path: &Path) -> anyhow::Result<Cost> {
    let bus = bus::sqlite::open(path).await?;
    let before = resident()?;
    publish(&bus).await?;
    let with_keys = resident()?;
    declare(&bus).await?;
    Ok(Cost { name: "sqlite", server: None, process: Some(each(before, with_keys, resident()?)) })
}

/// Streams and consumer groups of Redis's own.
async fn raw_redis(url: &str) -> anyhow::Result<Cost> {
    let mut server = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let before = used(&mut server).await?;
    let data = "x".repeat(DATA);
    for first in (0..KEYS).step_by(BATCH) {
        let mut pipeline = redis::pipe();
        for key in first..first + BATCH {
            pipeline.xadd("raw", "*", &[("key", format!("keys/{key}")), ("d", data.clone())]).ignore();
        }
        let () = pipeline.query_async(&mut server).await?;
    }
    let with_keys = used(&mut server).await?;
    for group in 0..GROUPS {
        let group = format!("group-{group}");
        let () = server.xgroup_create("raw", &group, "0").await?;
        let options = redis::streams::StreamReadOptions::default().group(&group, "bench").count(1);
        let _: redis::streams::StreamReadReply = server.xread_options(&["raw"], &[">"], &options).await?;
    }
    let with_groups = used(&mut server).await?;
    Ok(Cost { name: "raw Redis", server: Some(each(before, with_keys, with_groups)), process: None })
}

async fn nats(folder: &Path) -> anyhow::Result<Cost> {
    fs::create_dir(folder)?;
    let (server, url) = jetstream::start(folder)?;
    let client = JetStream::connect(&url).await?;
    let before = server.memory_kib()? * 1024.0;
    client.fill(KEYS).await?;
    let with_keys = server.memory_kib()? * 1024.0;
    client.declare(GROUPS).await?;
    let with_groups = server.memory_kib()? * 1024.0;
    Ok(Cost { name: "JetStream", server: Some(each(before, with_keys, with_groups)), process: None })
}

async fn publish(bus: &Bus) -> anyhow::Result<()> {
    let (queue, event) = (Name::new("KEYS")?, Name::new("PING")?);
    bus.declare_queue(Queue::new(queue.clone())).await?;
    for first in (0..KEYS).step_by(BATCH) {
        let events = (first..first + BATCH)
            .map(|key| {
                let event = Envelope::new("/services/bench", queue.clone(), event.clone());
                event.subject(format!("keys/{key}")).data(padding())
            })
            .collect();
        for outcome in bus.publish(events).await? {
            outcome?;
        }
    }
    Ok(())
}

/// Groups that have claimed, and one delivery each that they haven't settled.
async fn declare(bus: &Bus) -> anyhow::Result<()> {
    for group in 0..GROUPS {
        let name = format!("group-{group}");
        bus.declare_group(Group::new(&name, "KEYS/*".parse()?, Mode::Keyed)).await?;
        let claim = Claim { group: name.clone(), member: "bench".to_owned(), max: 2, bytes: 1 << 20 };
        let claimed = bus.claim(claim).await?;
        let first = claimed.leased.first().context("nothing to claim")?;
        ensure!(claimed.leased.len() == 2, "too little was claimed");
        for settled in bus.settle(&name, vec![Settlement { token: first.token, verb: Verb::Ack }]).await? {
            settled?;
        }
    }
    Ok(())
}

fn each(before: f64, with_keys: f64, with_groups: f64) -> (f64, f64) {
    ((with_keys - before) / KEYS as f64, (with_groups - with_keys) / GROUPS as f64)
}

async fn used(server: &mut MultiplexedConnection) -> anyhow::Result<f64> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(server).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("no used_memory")?;
    Ok(used.trim().parse()?)
}

/// Bytes of this process that lie in memory.
fn resident() -> anyhow::Result<f64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
    Ok(rss.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
