//! C2, C3, C11, C17: what is published is in order, there once, waited for, and over at its time.

use std::time::Duration;

use bus::{Mode, Place, Progress, PublishOptions, Queue, Verb};
use time::OffsetDateTime;

use super::Stage;
use crate::{
    Site,
    load::{Habit, Traffic},
};

/// C2: several partitions, and members who fail.
pub(super) async fn order(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let nodes = [site.node().await?, site.node().await?];
    let witness = stage.witness(nodes[0].clone());
    witness.bus.declare_queue(Queue { partitions: 4, ..Queue::new(stage.queue()?) }).await?;
    let mut plan = super::traffic::plan(stage)?;
    for team in &mut plan.teams {
        team.habit = Habit { nacks: 15, releases: 10, forgets: 1, refuses: 1, at_once: 5, ..Habit::default() };
    }
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}

/// C3: two nodes publish the same ids at once.
pub(super) async fn dedupe(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let other = witness.on(site.node().await?);
    let group = stage.group("all", Mode::Parallel)?;
    witness.declare(&group, false).await?;
    for round in 0..stage.times(30) {
        let batch = || -> anyhow::Result<Vec<_>> {
            (0..3).map(|number| stage.event(&format!("{round}-{number}"), &format!("k{number}"))).collect()
        };
        let options = PublishOptions::default;
        let (one, two) =
            tokio::join!(witness.publish("one", batch()?, options()), other.publish("two", batch()?, options()));
        for (one, two) in one?.into_iter().zip(two?) {
            let (one, two) = (one?, two?);
            anyhow::ensure!(one.position == two.position, "one id at two places: {one:?}, {two:?}");
            anyhow::ensure!(one.duplicate != two.duplicate, "one of the two is the duplicate: {one:?}, {two:?}");
        }
    }
    witness.ack_all(&group.name).await?;
    witness.rest().await
}

/// C11: a publisher who waits for the delivery.
pub(super) async fn synchronous(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("waited-for", Mode::Parallel)?;
    let named = [group.name.clone()];
    let publish = async |id: &str| {
        let event = stage.event(id, id)?;
        let outcomes = witness.publish("p", vec![event.clone()], PublishOptions::default()).await?;
        let recorded = outcomes.into_iter().next().ok_or_else(|| anyhow::anyhow!("no outcome"))??;
        Place::of(&event.queue, &recorded).ok_or_else(|| anyhow::anyhow!("no place"))
    };

    // Nobody there: it is held until the time is over, and is not lost by that.
    let early = publish("early").await?;
    let waited = witness.bus.wait_delivered(&early, &named, Duration::from_millis(300)).await?;
    anyhow::ensure!(waited.progress != Progress::Delivered, "delivered to nobody: {waited:?}");

    // Somebody comes while it waits.
    let comes = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        witness.declare(&group, false).await?;
        let leased = witness.next_one(&group.name, "m").await?;
        witness.done(&group.name, &leased, Verb::Ack).await
    };
    let (waited, came) = tokio::join!(witness.bus.wait_delivered(&early, &named, super::hand::SOON), comes);
    came?;
    anyhow::ensure!(waited?.progress == Progress::Delivered, "it was acknowledged");

    // The consumer is faster than whoever waits.
    let fast = publish("fast").await?;
    let leased = witness.next_one(&group.name, "m").await?;
    witness.done(&group.name, &leased, Verb::Ack).await?;
    let waited = witness.bus.wait_delivered(&fast, &named, Duration::from_millis(10)).await?;
    anyhow::ensure!(waited.progress == Progress::Delivered, "it was acknowledged before: {waited:?}");

    // It fails, and that is told.
    let fails = publish("fails").await?;
    let leased = witness.next_one(&group.name, "m").await?;
    witness.done(&group.name, &leased, Verb::Dead { reason: "never".into() }).await?;
    let waited = witness.bus.wait_delivered(&fails, &named, super::hand::SOON).await?;
    anyhow::ensure!(waited.progress == Progress::Failed, "it is dead: {waited:?}");
    witness.rest().await
}

/// C17: what is over is not delivered, whether it waits in the log or for another attempt.
pub(super) async fn expiry(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("late", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    let ends = |after: u64| Some(OffsetDateTime::now_utc() + Duration::from_millis(after));
    let mut over = stage.event("over", "k")?;
    over.expirytime = ends(600);
    let mut retried = stage.event("retried", "l")?;
    retried.expirytime = ends(1_500);
    witness.record("p", vec![retried, over, stage.event("stays", "k")?]).await?;
    let leased = witness.next_one(&group.name, "m").await?;
    anyhow::ensure!(leased.envelope.id == "retried", "{} came first", leased.envelope.id);
    let nack = Verb::Nack { delay: Some(Duration::from_millis(1_800)), reason: "later".into(), retryable: true };
    witness.done(&group.name, &leased, nack).await?;
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    let leased = witness.next_one(&group.name, "m").await?;
    anyhow::ensure!(leased.envelope.id == "stays", "{} came though it was over", leased.envelope.id);
    witness.done(&group.name, &leased, Verb::Ack).await?;
    witness.ack_all(&group.name).await?;
    let had = |id: &str| {
        witness
            .history
            .entries()
            .iter()
            .filter(|entry| matches!(&entry.what, crate::history::What::Delivered { event, .. } if event.id == id))
            .count()
    };
    anyhow::ensure!((had("over"), had("retried")) == (0, 1), "what was over came again");
    witness.history.write(crate::history::What::Rest);
    Ok(())
}
