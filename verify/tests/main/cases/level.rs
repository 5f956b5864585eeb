//! I10: load after load, while connections are reset again and again: what a process and its Redis hold is in the end what
//! they held after the first load.

use std::{fs, time::Duration};

use bus::Bus;
use nix::sys::signal::Signal;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Habit, Traffic},
};

use super::{SOON, metric, plan};
use crate::lab::{Child, Lab, RedisLab, Role};

const CUTS: usize = 20;
const BETWEEN: Duration = Duration::from_millis(150);
const LOADS: usize = 4;
/// Bytes by which memory may grow that allocators and caches keep, and the history of a child.
const MEMORY: u64 = 48 << 20;
/// Descriptors, connections and keys that come and go.
const FEW: u64 = 4;

pub(super) async fn rounds(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let times = stage.times(LOADS);
    let redis = if lab.backend() == "redis" { Some(lab.redis()) } else { None };
    let empty = match redis {
        Some(redis) => Some(Held::by(redis).await),
        None => None,
    };
    let mut child = Child::start(stage, (lab.backend(), lab.address().await), Role::Loads { times }, 1, None);
    rests(&child, 1).await;
    if let Some(redis) = redis {
        let warm = Held::by(redis).await;
        for _ in 0..stage.times(CUTS) {
            let witness = stage.history.clone();
            witness.write(What::Harmed { by: "network".into(), harm: Harm::Outage });
            redis.proxy.as_ref().unwrap().cut();
            witness.write(What::Healed { by: "network".into() });
            tokio::time::sleep(BETWEEN).await;
        }
        rests(&child, times).await;
        child.signal(Signal::SIGTERM);
        child.ended().await;
        // Who is gone holds nothing at the server; what it wrote is there.
        let empty = empty.unwrap_or_default();
        let (mut after, end) = (Held::by(redis).await, tokio::time::Instant::now() + SOON);
        while (after.clients > empty.clients || after.files > empty.files) && tokio::time::Instant::now() < end {
            tokio::time::sleep(BETWEEN).await;
            after = Held::by(redis).await;
        }
        for (of, before, after, slack) in [
            ("clients of Redis", empty.clients, after.clients, 0),
            ("descriptors of Redis", empty.files, after.files, FEW),
            ("memory of Redis", warm.memory, after.memory, MEMORY),
            ("keys in Redis", warm.keys, after.keys, FEW),
        ] {
            stage.history.write(What::Level { of: of.into(), before, after, slack });
        }
    } else {
        rests(&child, times).await;
        child.signal(Signal::SIGTERM);
        child.ended().await;
    }
    let measured = child.entries().iter().filter(|entry| matches!(entry.what, What::Level { .. })).count();
    child.tell(stage);
    anyhow::ensure!(measured == 2, "the child measured {measured} things");
    Ok(())
}

/// A child's loads: after the first and after the last it looks at what it holds.
pub(crate) async fn loads(stage: &Stage, bus: Bus, times: usize) {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    load(stage, &bus, 0).await;
    let [files, memory] = held(stage);
    for round in 1..times {
        load(stage, &bus, round).await;
    }
    terminate.recv().await;
    load(stage, &bus, times).await;
    let end = tokio::time::Instant::now() + SOON;
    while held(stage)[0] > files + FEW && tokio::time::Instant::now() < end {
        tokio::time::sleep(BETWEEN).await;
    }
    let [after, memory_after] = held(stage);
    for (of, before, after, slack) in [("descriptors", files, after, FEW), ("memory", memory, memory_after, MEMORY)] {
        stage.history.write(What::Level { of: of.into(), before, after, slack });
    }
}

async fn load(stage: &Stage, bus: &Bus, round: usize) {
    let witness = stage.witness(bus.clone());
    let mut plan = plan(stage, &format!("p{round}"), 15).unwrap();
    plan.readers = 0;
    for team in &mut plan.teams {
        team.habit = Habit { at_once: 8, ..Habit::default() };
    }
    Traffic::start(&witness, std::slice::from_ref(bus), &plan, stage.seed).await.unwrap().rest().await.unwrap();
}

/// Descriptors and bytes of this process.
fn held(stage: &Stage) -> [u64; 2] {
    ["process_open_fds", "process_resident_memory_bytes"].map(|name| metric::read(name, stage) as u64)
}

/// Waits until a child has been through so many loads.
async fn rests(child: &Child, times: usize) {
    testkit::eventually("the child has settled everything", 4 * SOON, async || {
        let rests = child.entries().iter().filter(|entry| entry.what == What::Rest).count();
        (rests >= times).then_some(())
    })
    .await;
}

/// What a Redis holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    clients: u64,
    files: u64,
    memory: u64,
    keys: u64,
}

impl Held {
    async fn by(redis: &RedisLab) -> Self {
        let id = redis.server.lock().await.id();
        let info = redis.command(&["INFO", "clients"]).await;
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        // What the bus tells of itself is a queue of its own, which comes into being with its first event.
        let keys = redis.keys().await.iter().filter(|key| !key.contains("{SYS:")).count() as u64;
        Self {
            clients: number(&info, "connected_clients:"),
            files: fs::read_dir(format!("/proc/{id}/fd")).unwrap().count() as u64,
            memory: number(&status, "VmRSS:") << 10,
            keys,
        }
    }
}
