//! F6, F7, F8, F14: Redis is restarted, emptied, split in two, full.

use std::time::Duration;

use bus::Mode;
use testkit::{Fault as Broken, RedisOptions};
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Habit, Traffic, Witness},
};

use super::{SOON, plan};
use crate::lab::Lab;

const PAUSE: Duration = Duration::from_millis(300);

/// F7: FLUSHALL in traffic.
pub(super) async fn flushed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 80, async |witness| {
        for _ in 0..stage.times(2) {
            tokio::time::sleep(PAUSE).await;
            witness.harmed("flush", Harm::Outage);
            witness.harmed("flush", Harm::Rollback { since: 0 });
            lab.redis().command(&["FLUSHALL"]).await;
            witness.healed("flush");
        }
        Ok(())
    })
    .await
}

/// F7: each key is deleted in traffic, one after the other.
pub(super) async fn deleted(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 150, async |witness| {
        tokio::time::sleep(PAUSE).await;
        for key in lab.redis().keys().await {
            // The stream is the events; the rest is what is known of them. Whatever goes, a reader may be told.
            witness.harmed("delete", Harm::Amnesia);
            witness.harmed("delete", Harm::Rollback { since: 0 });
            lab.redis().command(&["DEL", &key]).await;
            tokio::time::sleep(PAUSE / 10).await;
            witness.healed("delete");
        }
        Ok(())
    })
    .await
}

/// F7: the scripts are forgotten in traffic, which nobody may notice.
pub(super) async fn scripts(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 60, async |_| {
        for _ in 0..stage.times(40) {
            tokio::time::sleep(PAUSE / 20).await;
            lab.redis().command(&["SCRIPT", "FLUSH"]).await;
        }
        Ok(())
    })
    .await
}

/// F6: stopped as an operator does it, and started again.
pub(super) async fn restarted(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 80, async |witness| {
        for _ in 0..stage.times(2) {
            tokio::time::sleep(PAUSE).await;
            witness.harmed("restart", Harm::Outage);
            let mut server = lab.redis().server.lock().await;
            server.pause();
            tokio::time::sleep(PAUSE).await;
            server.resume();
            server.restart().await;
            witness.healed("restart");
        }
        Ok(())
    })
    .await
}

/// F8: a replica is cut off while 100 are published, and becomes the primary; the old one is back, and a connection that
/// knows only that one writes to it.
pub(super) async fn forked(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let redis = lab.redis();
    let stale = stage.witness(lab.node().await?);
    let group = stage.group("parallel", Mode::Parallel)?;
    stale.declare(&group, false).await?;
    let publish = async |witness: &Witness, from: usize| {
        for number in from..from + 100 {
            let event = stage.event(&number.to_string(), &format!("k{number}"))?;
            witness.publish(&format!("p{from}"), vec![event], bus::PublishOptions::default()).await?;
        }
        anyhow::Ok(())
    };
    publish(&stale, 0).await?;
    let replica = redis.server.lock().await.replica(RedisOptions::default()).await;
    let since = stale.history.now();
    let proxy_port = redis.server.lock().await.port().to_string();
    // Its replication stands still; nothing of the next hundred arrives.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    stale.harmed("fork", Harm::Rollback { since });
    publish(&stale, 100).await?;
    let new = stage.witness(bus::redis::open(&replica.url()).await?);
    publish(&new, 200).await?;
    // The old primary is back, and becomes a replica of the new one: what it alone had is gone.
    redis.server.lock().await.restart().await;
    publish(&stale, 300).await.ok();
    redis.command(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]).await;
    testkit::eventually("the old one follows", SOON, async || {
        redis.command(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
    })
    .await;
    let refused = stale.publish("p400", vec![stage.event("400", "k")?], bus::PublishOptions::default()).await;
    anyhow::ensure!(refused.is_err(), "a replica takes no events (port {proxy_port})");
    new.healed("fork");
    let bus = new.bus.clone();
    let mut plan = plan(stage, "last", 10)?;
    for team in &mut plan.teams {
        team.habit = Habit { at_once: 8, ..Habit::default() };
    }
    Traffic::start(&new, &[bus], &plan, stage.seed).await?.rest().await
}

/// F14: no memory is left: publishing is refused with the reason, settling goes on, and so does everything once there is.
pub(super) async fn full(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 80, async |witness| {
        let refused = || {
            witness
                .history
                .count(|what| matches!(what, What::PublishFailed { error, .. } if error.contains("out of memory")))
        };
        let settled = || witness.history.count(|what| matches!(what, What::SettleAnswered { .. }));
        tokio::time::sleep(PAUSE).await;
        witness.harmed("memory", Harm::Outage);
        lab.redis().command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
        testkit::eventually("it says so", SOON, async || (refused() > 0).then_some(())).await;
        let before = settled();
        testkit::eventually("settling goes on", SOON, async || (settled() > before).then_some(())).await;
        lab.redis().command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        witness.healed("memory");
        Ok(())
    })
    .await
}

/// F9, F10, F11: the network between the bus and Redis.
pub(super) async fn network(lab: &Lab, stage: &Stage, ill: &[(testkit::Way, Broken)]) -> anyhow::Result<()> {
    amid(lab, stage, 100, async |witness| {
        let proxy = lab.redis().proxy.as_ref().unwrap();
        for _ in 0..stage.scale {
            for (way, fault) in ill {
                tokio::time::sleep(PAUSE).await;
                witness.harmed("network", Harm::Outage);
                proxy.set(*way, *fault);
                tokio::time::sleep(2 * PAUSE).await;
                proxy.set_both(Broken::None);
                // What was swallowed is known by who waited for it to be lost.
                proxy.cut();
                witness.healed("network");
            }
        }
        Ok(())
    })
    .await
}

/// F11: members take their time, and little comes through the network; what was needed meanwhile is given back.
pub(super) async fn slow(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    lab.redis().proxy.as_ref().unwrap().set(testkit::Way::Back, Broken::Throttle(300_000));
    let mut held = Vec::new();
    for (publisher, events, readers) in [("p", 10, 0), ("q", 40, 2)] {
        let mut plan = plan(stage, publisher, events)?;
        plan.readers = readers;
        for team in &mut plan.teams {
            team.habit.slow = Duration::from_millis(10);
            team.slow = Duration::from_millis(10);
        }
        Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await?;
        // What the bus tells of itself is a queue of its own, which comes into being with its first event.
        let keys = lab.redis().keys().await;
        held.push(keys.iter().filter(|key| !key.contains("{SYS:")).count() as u64);
    }
    witness.history.write(What::Level { of: "keys in Redis".into(), before: held[0], after: held[1], slack: 2 });
    Ok(())
}

/// Something happens while everybody works.
pub(super) async fn amid(
    lab: &Lab,
    stage: &Stage,
    events: usize,
    happens: impl AsyncFn(&Witness) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let mut traffic = Traffic::start(&witness, &nodes, &plan(stage, "p", events)?, stage.seed).await?;
    happens(&witness).await?;
    traffic.published().await?;
    traffic.rest().await
}
