//! F1 to F4: members die, end, share a name, stand still.

use std::time::Duration;

use bus::{Mode, Verb};
use nix::sys::signal::Signal;
use verify::{
    Site as _,
    contract::Stage,
    history::{Did, Harm, Settled, What},
    load::{Habit, Plan, Team, Traffic, Witness},
};

use super::{SOON, handled, plan};
use crate::lab::{Child, Lab, Point, Role};

const EVENTS: usize = 40;

/// F1: killed before it begins, in the middle, and after the effect.
pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let deaths =
        [(Point::Begun, Duration::ZERO), (Point::Never, Duration::from_millis(300)), (Point::Done, Duration::ZERO)];
    for (number, (point, slow)) in deaths.into_iter().enumerate() {
        let witness = stage.witness(lab.node().await?);
        publish(&witness, stage, number).await?;
        drop(witness);
        let role = Role::Handles { point, nth: 10, slow };
        let address = lab.address().await;
        let mut child = Child::start(stage, (lab.backend(), address), role, 1 + number as u64, None);
        if point == Point::Never {
            let begun = |child: &Child| child.entries().iter().any(|entry| is(&entry.what, Did::Started));
            testkit::eventually("it works", SOON, async || begun(&child).then_some(())).await;
            child.kill();
        }
        child.ended().await;
        died(lab, stage, child).await?;
    }
    finish(lab, stage).await
}

/// F2: told to end: it finishes what it began, gives back the rest, and nothing comes twice.
pub(super) async fn terminated(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    publish(&witness, stage, 0).await?;
    drop(witness);
    let role = Role::Handles { point: Point::Never, nth: 0, slow: Duration::from_millis(200) };
    let address = lab.address().await;
    let mut child = Child::start(stage, (lab.backend(), address), role, 1, None);
    let begun = |child: &Child| child.entries().iter().any(|entry| is(&entry.what, Did::Started));
    testkit::eventually("it works", SOON, async || begun(&child).then_some(())).await;
    child.signal(Signal::SIGTERM);
    child.ended().await;
    let entries = child.entries();
    let [begun, done] = [Did::Started, Did::Done].map(|did| entries.iter().filter(|e| is(&e.what, did)).count());
    child.tell(stage);
    anyhow::ensure!(begun == done, "{begun} were begun and {done} done");
    finish(lab, stage).await
}

/// F3: two replicas with one name, each of which takes itself for the only one.
pub(super) async fn namesakes(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let mut plan = plan(stage, "p", 60)?;
    for team in &mut plan.teams {
        // Who is the one member of a partition is told by its name.
        team.namesakes = team.group.mode != Mode::Exclusive;
    }
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}

/// F4: a member stands still past its lease, and acknowledges late.
pub(super) async fn paused(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    // By hand: it is late for certain, and somebody else has it by then.
    let group = stage.group("late", Mode::Parallel)?;
    witness.declare(&group, false).await?;
    witness.publish("q", vec![stage.event("late", "k")?], bus::PublishOptions::default()).await?;
    let late = next(&witness, &group.name, "paused").await?;
    tokio::time::sleep(group.lease).await;
    let taken = next(&witness, &group.name, "other").await?;
    let settled = witness.settle(&group.name, late, Verb::Ack).await?;
    witness.settle(&group.name, taken, Verb::Ack).await?;
    anyhow::ensure!(settled == Settled::LeaseLost, "a stale token settles");
    let habit = Habit { late: 4, forgets: 2, extends: 10, at_once: 4, ..Habit::default() };
    let plan = Plan {
        teams: vec![
            Team::by_hand(stage.group("parallel", Mode::Parallel)?, 4, habit),
            Team::by_hand(stage.group("keyed", Mode::Keyed)?, 4, habit),
            Team::by_hand(stage.group("exclusive", Mode::Exclusive)?, 2, habit),
            Team::by_hand(group, 1, Habit { at_once: 8, ..Habit::default() }),
        ],
        ..plan(stage, "p", 30)?
    };
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}

async fn next(witness: &Witness, group: &str, member: &str) -> anyhow::Result<bus::Token> {
    let token = testkit::eventually("it is delivered", SOON, async || {
        witness.claim(group, member, 1).await.ok()?.leased.first().map(|leased| leased.token)
    });
    Ok(token.await)
}

async fn publish(witness: &Witness, stage: &Stage, round: usize) -> anyhow::Result<()> {
    witness.declare(&handled(stage), true).await?;
    for number in 0..stage.times(EVENTS) {
        let event = stage.event(&format!("{round}-{number}"), &format!("k{number}"))?;
        witness.publish("p", vec![event], bus::PublishOptions::default()).await?;
    }
    Ok(())
}

/// A child's end, as a fault of the history: before it whatever the child was doing, after it whoever comes.
async fn died(lab: &Lab, stage: &Stage, child: Child) -> anyhow::Result<()> {
    child.tell(stage);
    let witness = stage.witness(lab.node().await?);
    witness.harmed("child", Harm::Member { member: "child".into() });
    witness.harmed("child", Harm::Restart);
    witness.healed("child");
    Ok(())
}

/// Others take over.
async fn finish(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let bus = lab.node().await?;
    let witness = stage.witness(bus.clone());
    let team = Team::of_consumers(handled(stage), 2, Duration::ZERO);
    let plan = Plan { teams: vec![team], ..plan(stage, "last", 10)? };
    Traffic::start(&witness, &[bus], &plan, stage.seed).await?.rest().await
}

fn is(what: &What, did: Did) -> bool {
    matches!(what, What::Handled { did: other, .. } if *other == did)
}
