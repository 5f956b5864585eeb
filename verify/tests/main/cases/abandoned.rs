//! C18: a group that nobody claims for loses its hold on the log. It is told what it lost, and goes on with what is there.

use std::time::Duration;

use bus::{Mode, PublishOptions, Queue};
use events::Name;
use time::Duration as Step;
use verify::{
    Site as _,
    contract::Stage,
    history::{Action, Harm, What},
    load::{Witness, audit},
};

use super::{SOON, clock::acknowledge_all};
use crate::lab::Lab;

const KEPT: Duration = Duration::from_secs(3_600);
/// A longer pause between two looks counts as one in which nobody could have claimed.
const LOOK: Step = Step::minutes(5);
const EVENTS: usize = 20;
/// Of those it settles so many before it goes away.
const SETTLED: usize = 5;

pub(super) async fn loses_its_hold(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    witness.bus.declare_queue(Queue { max_age: KEPT, ..Queue::new(stage.queue()?) }).await?;
    let (away, there) = (stage.group("away", Mode::Keyed)?, stage.group("there", Mode::Keyed)?);
    witness.declare(&away, false).await?;
    witness.declare(&there, false).await?;
    witness.operated("", Action::Drop);
    publish(&witness, stage, 0..EVENTS).await?;
    let first = witness.claim(&away.name, "m", SETTLED).await?.leased;
    anyhow::ensure!(first.len() == SETTLED, "{} came at once", first.len());
    witness.acknowledge(&away.name, &first).await?;
    acknowledge_all(&witness, &there.name).await?;
    let mut passed = Step::ZERO;
    while lost(&witness, &away.name).await?.0 == 0 {
        anyhow::ensure!(passed < Step::hours(6), "a group that is away holds the log");
        witness.harmed("clock", Harm::Clock { by_ms: i64::try_from(LOOK.whole_milliseconds())? });
        lab.clock().step(LOOK);
        lab.housekeep().await?;
        witness.healed("clock");
        // The other one asks all the while, and misses nothing.
        anyhow::ensure!(witness.claim(&there.name, "m", 1).await?.leased.is_empty(), "it has settled all there was");
        passed += LOOK;
    }
    anyhow::ensure!(passed >= KEPT, "it lost its hold after {passed}");
    lab.housekeep().await?;
    let missed = (EVENTS - SETTLED) as u64;
    let told = testkit::eventually("it is told", SOON, async || {
        told(&witness, stage).await.ok().filter(|told| !told.is_empty())
    })
    .await;
    let range = [(SETTLED as u64 + 1, EVENTS as u64 + 1)];
    anyhow::ensure!(told == range, "it is told to have lost {told:?}");
    anyhow::ensure!(lost(&witness, &away.name).await? == (missed, true), "it has lost what it had not settled");
    anyhow::ensure!(lost(&witness, &there.name).await? == (0, false), "the other one has lost nothing");
    publish(&witness, stage, EVENTS..EVENTS + SETTLED).await?;
    for group in [&away, &there] {
        acknowledge_all(&witness, &group.name).await?;
    }
    anyhow::ensure!(lost(&witness, &away.name).await? == (missed, false), "it is back");
    witness.history.write(What::Rest);
    audit(&witness).await
}

async fn publish(witness: &Witness, stage: &Stage, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    for number in numbers {
        // Each has its own key, so that several are handed out at once, in order.
        let event = stage.event(&number.to_string(), &format!("k{number}"))?;
        witness.publish("p", vec![event], PublishOptions::default()).await?.remove(0)?;
    }
    Ok(())
}

/// How many events a group has lost, and whether it has lost its hold.
async fn lost(witness: &Witness, group: &str) -> anyhow::Result<(u64, bool)> {
    let groups = witness.bus.groups().await?;
    let status = groups.into_iter().find(|status| status.name == group);
    status.map(|status| (status.lost, status.abandoned.is_some())).ok_or_else(|| anyhow::anyhow!("no group {group}"))
}

/// What the bus has told of groups that lost their hold on the case's queue: from, and up to where.
async fn told(witness: &Witness, stage: &Stage) -> anyhow::Result<Vec<(u64, u64)>> {
    let queue = stage.queue()?;
    let page = witness.bus.read(&Name::new("SYS")?, 0, 1, 1_000).await?;
    let abandoned = page.events.iter().filter(|logged| logged.envelope.event.as_str() == "GROUP_ABANDONED");
    let data = abandoned.filter_map(|logged| logged.envelope.json()).filter(|data| data["queue"] == queue.as_str());
    Ok(data.filter_map(|data| data["from"].as_u64().zip(data["to"].as_u64())).collect())
}
