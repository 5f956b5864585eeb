//! F7 and F25 of what is for later: it is deleted, and many are due at once.

use std::time::Duration;

use bus::{Mode, PublishOptions};
use events::{Envelope, Name};
use time::OffsetDateTime;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Habit, Plan, Team, Traffic, Witness, audit_log},
};

use super::{DUE, SOON, metric, plan};
use crate::lab::Lab;

/// How far ahead what is deleted was.
const AHEAD: Duration = Duration::from_secs(3);
const FEW: usize = 10;
/// So many may take so long until all of them are recorded, from the moment at which they are due.
const AT_MOST: Duration = Duration::from_secs(60);
/// Of a publish.
const BATCH: usize = 250;
/// So many are judged with a group that has them all; of more the log alone.
const WITH_A_GROUP: usize = 10_000;

/// F7: the order of what waits is made again; what is deleted itself is told, and so is a flush.
pub(super) async fn deleted(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let redis = lab.redis();
    let delete = async |ends: &[&str]| {
        for key in redis.keys().await {
            let own = key.contains(&format!("{{{}:", stage.queue().unwrap()));
            if own && ends.iter().any(|end| key.ends_with(end)) {
                redis.command(&["DEL", &key]).await;
            }
        }
    };
    let group = stage.group("later", Mode::Keyed)?;
    let team = Team::by_hand(group, 2, Habit { at_once: 4, ..Habit::default() });
    let plan = Plan { teams: vec![team], publishers: 0, readers: 1, ..plan(stage, "p", 0)? };
    let traffic = Traffic::start(&witness, &[lab.node().await?], &plan, stage.seed).await?;

    schedule(&witness, stage, "order").await?;
    delete(&[":w"]).await;
    for (round, ends) in [&[":we"][..], &[":w", ":we"]].into_iter().enumerate() {
        nothing_waits(&witness, stage).await;
        witness.harmed("deleted", Harm::Waiting);
        schedule(&witness, stage, &format!("gone{round}")).await?;
        delete(ends).await;
        told(&witness, stage, "SCHEDULED_LOST", round + 1).await;
        witness.healed("deleted");
    }
    witness.harmed("flush", Harm::Outage);
    witness.harmed("flush", Harm::Rollback { since: 0 });
    schedule(&witness, stage, "flushed").await?;
    redis.command(&["FLUSHALL"]).await;
    told(&witness, stage, "LOG_RESET", 1).await;
    witness.healed("flush");
    witness.excused_no_more().await;
    schedule(&witness, stage, "after").await?;
    nothing_waits(&witness, stage).await;
    traffic.rest().await
}

/// F25: every node watches the clock, and what is due is recorded once, in its order, while others publish.
pub(super) async fn due_at_once(lab: &Lab, stage: &Stage, count: usize) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let others = witness.on(nodes[1].clone());
    let group = bus::Group { lease: SOON, ..stage.group("due", Mode::Parallel)? };
    if count <= WITH_A_GROUP {
        witness.declare(&group, false).await?;
    }
    let before = metric::read(DUE, stage);
    let wares = stage.wares(1)?;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(4) + Duration::from_millis(count as u64 / 2);
    for (round, first) in (0..count).step_by(BATCH).enumerate() {
        let later = |number: usize| {
            let event = wares.event(&format!("due-{number}"), &format!("k{}", number % 50), number);
            Envelope { deliverytime: Some(due), ..event }
        };
        let batch = (first..count.min(first + BATCH)).map(later).collect();
        let on = if round % 2 == 0 { &witness } else { &others };
        for outcome in on.publish("p", batch, PublishOptions::default()).await? {
            outcome?;
        }
    }
    let wait = Duration::try_from(due - OffsetDateTime::now_utc()).unwrap_or_default();
    tokio::time::sleep(wait).await;
    // Who publishes meanwhile doesn't wait for all of them.
    let began = tokio::time::Instant::now();
    let mut live = 0;
    while !witness.bus.scheduled(&stage.queue()?, None, 1).await?.is_empty() {
        anyhow::ensure!(began.elapsed() < AT_MOST, "not all of {count} were recorded after {:?}", began.elapsed());
        let outcome =
            witness.publish("live", vec![stage.event(&format!("live-{live}"), "live")?], PublishOptions::default());
        outcome.await?.remove(0)?;
        live += 1;
    }
    let recorded = metric::read(DUE, stage) - before;
    anyhow::ensure!(recorded == count as f64, "{recorded} of {count} were recorded when they were due");
    if count > WITH_A_GROUP {
        witness.history.write(What::Rest);
        return audit_log(&witness).await;
    }
    let end = tokio::time::Instant::now() + 2 * SOON;
    let mut had = 0;
    while had < count + live && tokio::time::Instant::now() < end {
        let leased = witness.claim(&group.name, "m", BATCH).await?.leased;
        witness.acknowledge(&group.name, &leased).await?;
        had += leased.len();
    }
    witness.history.write(What::Rest);
    verify::load::audit(&witness).await
}

/// Some events, a moment ahead.
async fn schedule(witness: &Witness, stage: &Stage, name: &str) -> anyhow::Result<()> {
    let deliverytime = Some(OffsetDateTime::now_utc() + AHEAD);
    let events = (0..FEW).map(|number| {
        let event = stage.event(&format!("{name}-{number}"), &format!("k{}", number % 3))?;
        Ok(Envelope { deliverytime, ..event })
    });
    for outcome in witness.publish("p", events.collect::<anyhow::Result<_>>()?, PublishOptions::default()).await? {
        outcome?;
    }
    Ok(())
}

async fn nothing_waits(witness: &Witness, stage: &Stage) {
    let queue = stage.queue().unwrap();
    testkit::eventually("nothing waits", SOON, async || {
        witness.bus.scheduled(&queue, None, 1).await.is_ok_and(|scheduled| scheduled.is_empty()).then_some(())
    })
    .await;
}

/// Waits until the bus has told something of the case's queue so many times.
async fn told(witness: &Witness, stage: &Stage, event: &str, times: usize) {
    let (sys, queue) = (Name::new("SYS").unwrap(), stage.queue().unwrap());
    testkit::eventually(event, SOON, async || {
        let page = witness.bus.read(&sys, 0, 1, 1_000).await.ok()?;
        let of_it = page.events.iter().filter(|logged| {
            logged.envelope.event.as_str() == event
                && logged.envelope.json().is_some_and(|data| data["queue"] == queue.as_str())
        });
        (of_it.count() >= times).then_some(())
    })
    .await;
}
