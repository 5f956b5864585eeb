//! F13, F22, F25: the clock steps, trimming races claims, everything is due at once.

use std::time::Duration;

use bus::{Mode, Queue, Verb};
use time::Duration as Step;
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{Action, Harm},
    load::{Habit, Plan, Team, Traffic},
};

use super::{SOON, metric, plan, redis::amid};
use crate::lab::Lab;

const PAUSE: Duration = Duration::from_millis(300);
const KEPT: &str = "turnpike_bus_queue_events";

/// F13: an hour forwards, two back, one forwards.
pub(super) async fn steps(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let held = stage.group("held", Mode::Parallel)?;
    let witness = stage.witness(lab.node().await?);
    witness.declare(&held, false).await?;
    witness.publish("q", vec![stage.event("held", "k")?], bus::PublishOptions::default()).await?;
    // Somebody has it when the clock steps, and never settles it.
    let leased = testkit::eventually("it is delivered", SOON, async || {
        let leased = witness.claim(&held.name, "held", 1).await.ok()?.leased;
        (!leased.is_empty()).then_some(())
    });
    leased.await;
    amid(lab, stage, 80, async |witness| {
        for hours in [1, -2, 1] {
            tokio::time::sleep(PAUSE).await;
            let by_ms = hours * 3_600_000;
            witness.harmed("clock", Harm::Clock { by_ms });
            lab.clock().step(Step::milliseconds(by_ms));
            lab.housekeep().await?;
            tokio::time::sleep(PAUSE).await;
            witness.healed("clock");
        }
        acknowledge_all(witness, &held.name).await
    })
    .await
}

/// F22: what is published is old at once, and trimmed as soon as every group has settled it; not before.
pub(super) async fn trims(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    witness.bus.declare_queue(Queue { max_age: Duration::from_secs(60), ..Queue::new(stage.queue()?) }).await?;
    // A group that only looks in, so that it isn't taken for gone, and needs everything.
    let late = stage.group("late", Mode::Keyed)?;
    witness.declare(&late, false).await?;
    let habit = Habit { nacks: 5, releases: 5, at_once: 6, ..Habit::default() };
    let plan = Plan {
        teams: vec![
            Team::by_hand(stage.group("parallel", Mode::Parallel)?, 3, habit),
            Team::by_hand(stage.group("keyed", Mode::Keyed)?, 2, habit),
        ],
        ..plan(stage, "p", 60)?
    };
    let mut traffic = Traffic::start(&witness, &nodes, &plan, stage.seed).await?;
    traffic.trims();
    // A minute and more after the last publish all of it is old.
    let mut rounds_after = 0;
    while rounds_after < 2 {
        rounds_after += usize::from(!traffic.is_publishing()?);
        // A call that was on its way when the clock stepped brings an earlier time, as if the clock had stepped back; the bus
        // makes up for that, so that a step may count twice. The group is away for less than a minute even then.
        for _ in 0..2 {
            witness.harmed("clock", Harm::Clock { by_ms: 25_000 });
            lab.clock().step(Step::seconds(25));
            lab.housekeep().await?;
            witness.healed("clock");
            for leased in witness.claim(&late.name, "late", 1).await?.leased {
                witness.settle(&late.name, leased.token, Verb::Release).await?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    // Something that isn't old yet, whatever was trimmed before.
    witness.publish("last", vec![stage.event("last", "k")?], bus::PublishOptions::default()).await?.remove(0)?;
    // It comes, and everything is still there for it.
    let held = metric::gauge(&witness, stage, KEPT, 0.0).await;
    acknowledge_all(&witness, &late.name).await?;
    traffic.rest().await?;
    // What was settled is old by now, and goes; there is less than there was.
    lab.clock().step(Step::seconds(120));
    witness.harmed("clock", Harm::Clock { by_ms: 120_000 });
    let kept = async || {
        lab.housekeep().await.ok()?;
        _ = tokio::time::timeout(PAUSE, witness.bus.report(CancellationToken::new())).await;
        (metric::read(KEPT, stage) < held).then_some(())
    };
    testkit::eventually("the gauge says that less is kept", SOON, kept).await;
    Ok(())
}

/// Acknowledges everything that is left for a group.
pub(super) async fn acknowledge_all(witness: &verify::load::Witness, group: &str) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        for leased in witness.claim(group, "late", 64).await?.leased {
            witness.settle(group, leased.token, Verb::Ack).await?;
        }
        let groups = witness.bus.groups().await?;
        let left = groups.iter().find(|status| status.name == group).map_or(0, |status| status.lag);
        if left == 0 || tokio::time::Instant::now() > end {
            return Ok(());
        }
    }
}

/// F25: so many retries are due in the same moment.
pub(super) async fn due_at_once(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    witness.bus.declare_queue(Queue { partitions: 4, ..Queue::new(stage.queue()?) }).await?;
    let group = stage.group("due", Mode::Parallel)?;
    witness.declare(&group, false).await?;
    let count = stage.times(1_000).min(30_000);
    let wares = stage.wares(1)?;
    for first in (0..count).step_by(100) {
        let events = (first..first + 100).map(|n| wares.event(&n.to_string(), &format!("k{n}"), n)).collect();
        witness.publish("p", events, bus::PublishOptions::default()).await?;
    }
    // As many as may be in flight at a time are given back, all for the same moment.
    let due = tokio::time::Instant::now() + Duration::from_secs(4);
    let mut given = 0;
    while given < count && tokio::time::Instant::now() < due {
        let leased = witness.claim(&group.name, "m", 200).await?.leased;
        for leased in &leased {
            let delay = Some(due.saturating_duration_since(tokio::time::Instant::now()));
            let verb = Verb::Nack { delay, reason: "all at once".into(), retryable: true };
            witness.settle(&group.name, leased.token, verb).await?;
        }
        given += leased.len();
    }
    let team = Team::by_hand(group, 4, Habit { at_once: 64, ..Habit::default() });
    let plan = Plan { teams: vec![team], readers: 0, ..plan(stage, "p-last", 5)? };
    witness.operated("", Action::Trim);
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}
