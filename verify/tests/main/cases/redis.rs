//! F6, F7, F8, F14: Redis is restarted, emptied, split in two, full.

use std::{net::SocketAddr, time::Duration};

use bus::{Mode, PublishOptions, Queue};
use events::Envelope;
use testkit::{Fault as Broken, FaultProxy, RedisOptions, Way};
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Habit, Plan, Traffic, Witness, write_behind},
};

use super::{SOON, metric, plan};
use crate::lab::Lab;

const PAUSE: Duration = Duration::from_millis(300);
/// Bytes that a disk has left which is about to be full.
const ROOM: u64 = 20_000;

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

/// F7: each key is deleted in traffic, one after the other: of a queue that knows each key's last event, and in which events
/// wait for their time.
pub(super) async fn deleted(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    lab.node().await?.declare_queue(Queue { latest: true, ..Queue::new(stage.queue()?) }).await?;
    amid(lab, stage, 150, async |witness| {
        let deliverytime = Some(time::OffsetDateTime::now_utc() + 2 * PAUSE);
        let later = (0..10).map(|n| Ok(Envelope { deliverytime, ..stage.event(&format!("later-{n}"), "k")? }));
        witness.publish("later", later.collect::<anyhow::Result<_>>()?, PublishOptions::default()).await?;
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

/// F7: each key's last event is forgotten, again and again: whoever expects one waits until it is known, and finds it.
pub(super) async fn forgotten_versions(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    witness.bus.declare_queue(Queue { latest: true, ..Queue::new(stage.queue()?) }).await?;
    let traffic =
        Traffic::start(&witness, &nodes, &Plan { publishers: 1, ..plan(stage, "p", 40)? }, stage.seed).await?;
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (on, wares, rounds) = (witness.on(nodes[writer % 2].clone()), stage.wares(1)?, stage.times(15));
        writing.spawn(async move {
            let name = format!("w{writer}");
            for round in 0..rounds {
                let key = format!("k{}", (round + writer) % 4);
                let event = |attempt: usize| wares.event(&format!("{name}-{round}-{attempt}"), &key, round);
                write_behind(&on, &name, event).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut deleted = 0;
    while !writing.is_empty() {
        for key in lab.redis().keys().await.iter().filter(|key| key.ends_with(":v")) {
            lab.redis().command(&["DEL", key]).await;
            deleted += 1;
        }
        let written = async {
            while writing.join_next().await.transpose()?.transpose()?.is_some() {}
            anyhow::Ok(())
        };
        if let Ok(written) = tokio::time::timeout(PAUSE / 5, written).await {
            written?;
        }
    }
    anyhow::ensure!(deleted > 0, "there was nothing to forget");
    traffic.rest().await
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

/// What is wrong with a replication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It stands still for good.
    Cut,
    /// It comes later, by more than it takes until the replica is promoted.
    Delayed,
}

/// F8: a replica is cut off, or behind, while 100 are published, and becomes the primary; the old one is back, and a
/// connection that knows only that one writes to it.
pub(super) async fn forked(lab: &Lab, stage: &Stage, link: Link) -> anyhow::Result<()> {
    let redis = lab.redis();
    let stale = stage.witness(lab.node().await?);
    let group = stage.group("parallel", Mode::Parallel)?;
    stale.declare(&group, false).await?;
    let publish = async |witness: &Witness, from: usize| {
        for number in from..from + 100 {
            let event = stage.event(&number.to_string(), &format!("k{number}"))?;
            witness.publish(&format!("p{from}"), vec![event], PublishOptions::default()).await?;
        }
        anyhow::Ok(())
    };
    publish(&stale, 0).await?;
    let port = redis.server.lock().await.port();
    let network = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), 7).await;
    let replica = redis.server.lock().await.replica_through(network.address(), RedisOptions::default()).await;
    if link == Link::Delayed {
        // What it has confirmed stays, whatever becomes of the primary.
        let replicated = PublishOptions { confirm: bus::Confirm::Replicated(1), ..PublishOptions::default() };
        let recorded = stale.publish("kept", vec![stage.event("kept", "k")?], replicated).await?.remove(0)?;
        anyhow::ensure!(recorded.confirmed == bus::Confirm::Replicated(1), "{recorded:?}");
    }
    let since = stale.history.now();
    match link {
        // Nothing of the next hundred arrives.
        Link::Cut => _ = replica.command(&["REPLICAOF", "NO", "ONE"]),
        Link::Delayed => network.set(Way::Back, Broken::Delay(SOON)),
    }
    stale.harmed("fork", Harm::Rollback { since });
    publish(&stale, 100).await?;
    if link == Link::Delayed {
        let patience = Duration::from_millis(300);
        let confirm = bus::Confirm::Replicated(1);
        let behind = PublishOptions { confirm, patience, allow_degraded: true, ..PublishOptions::default() };
        let recorded = stale.publish("late", vec![stage.event("late", "k")?], behind).await?.remove(0)?;
        anyhow::ensure!(recorded.confirmed == bus::Confirm::Stored, "nobody else has it: {recorded:?}");
        replica.command(&["REPLICAOF", "NO", "ONE"]);
    }
    let new = stage.witness(bus::redis::open(&replica.url()).await?);
    if link == Link::Delayed {
        let kept = new.bus.find(&stage.queue()?, "/verify", "kept").await?;
        anyhow::ensure!(kept.is_some(), "what was replicated is gone");
    }
    publish(&new, 200).await?;
    // The old primary is back, and becomes a replica of the new one: what it alone had is gone.
    redis.server.lock().await.restart().await;
    publish(&stale, 300).await.ok();
    redis.command(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]).await;
    testkit::eventually("the old one follows", SOON, async || {
        redis.command(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
    })
    .await;
    let refused = stale.publish("p400", vec![stage.event("400", "k")?], PublishOptions::default()).await;
    anyhow::ensure!(refused.is_err(), "a replica takes no events (port {port})");
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

/// F14: Redis's disk is full: publishing is refused with the reason, and nothing is lost once there is room.
pub(super) async fn disk(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    amid(lab, stage, 80, async |witness| {
        let refused = || {
            witness.history.count(|what| matches!(what, What::PublishFailed { error, .. } if error.contains("disk")))
        };
        tokio::time::sleep(PAUSE).await;
        witness.harmed("disk", Harm::Outage);
        let written = std::fs::metadata(lab.redis().log())?.len();
        lab.redis().server.lock().await.limit_files(Some(written + ROOM));
        testkit::eventually("it says so", SOON, async || (refused() > 0).then_some(())).await;
        lab.redis().server.lock().await.limit_files(None);
        witness.healed("disk");
        Ok(())
    })
    .await
}

/// F9, F10, F11: the network between the bus and Redis.
pub(super) async fn network(lab: &Lab, stage: &Stage, ill: &[(Way, Broken)]) -> anyhow::Result<()> {
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
    lab.redis().proxy.as_ref().unwrap().set(Way::Back, Broken::Throttle(300_000));
    let mut held = Vec::new();
    for (publisher, events, readers) in [("p", 10, 0), ("q", 40, 2)] {
        let mut plan = plan(stage, publisher, events)?;
        plan.readers = readers;
        for team in &mut plan.teams {
            team.habit.slow = Duration::from_millis(10);
            team.slow = Duration::from_millis(10);
        }
        let traffic = Traffic::start(&witness, &nodes, &plan, stage.seed).await?;
        if publisher == "q" {
            tokio::time::sleep(PAUSE).await;
            metric::gauge(&witness, stage, "turnpike_bus_group_lag", 0.0).await;
        }
        traffic.rest().await?;
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
