//! C18: a queue keeps no more than it may: it refuses, or drops its oldest and says to whom.

use std::time::Duration;

use bus::{Mode, Overflow, PublishOptions, Queue, Refused, TailFrom, Verb};
use tokio_util::sync::CancellationToken;

use super::{Stage, hand::SOON};
use crate::{
    Site,
    history::{Action, Frame, What},
    load::follow,
};

const MOST: u64 = 20;

/// Full of what a group still needs, it refuses; once that is settled, it takes more.
pub(super) async fn rejects(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    witness.bus.declare_queue(Queue { max_len: Some(MOST), ..Queue::new(stage.queue()?) }).await?;
    let group = stage.group("slow", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    witness.operated("", Action::Trim);
    for number in 0..MOST {
        witness.record("p", vec![stage.event(&number.to_string(), "k")?]).await?;
    }
    let more = || stage.event("more", "k");
    let refused = witness.publish("p", vec![more()?], PublishOptions::default()).await?;
    anyhow::ensure!(matches!(refused[..], [Err(Refused::Full { .. })]), "{refused:?}");
    let leased = witness.next_one(&group.name, "m").await?;
    witness.done(&group.name, &leased, Verb::Ack).await?;
    witness.record("p", vec![more()?]).await?;
    witness.ack_all(&group.name).await?;
    let had = witness.history.count(|what| matches!(what, What::Delivered { .. }));
    anyhow::ensure!(had as u64 == MOST + 1, "{had} were delivered");
    witness.rest().await
}

/// It drops its oldest: the group loses exactly those, and a reader is told how many.
pub(super) async fn drops(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let settings = Queue { max_len: Some(MOST), overflow: Overflow::DropOldest, ..Queue::new(stage.queue()?) };
    witness.bus.declare_queue(settings).await?;
    let group = stage.group("away", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    witness.operated("", Action::Drop);
    for number in 0..2 * MOST {
        witness.record("p", vec![stage.event(&number.to_string(), "k")?]).await?;
    }
    let stop = CancellationToken::new();
    // From before the first event, as who began with it and was away.
    let lineage = witness.bus.lineage(&stage.queue()?, 0).await?.map_or(0, |lineage| lineage.id);
    let from = TailFrom::Cursor([(0, lineage, 0)].into_iter().collect());
    let filter = format!("{}/*", stage.queue()?).parse()?;
    let reading = tokio::spawn(follow(witness.clone(), "late".into(), filter, from, stop.clone()));
    witness.ack_all(&group.name).await?;
    let had = witness.history.count(|what| matches!(what, What::Delivered { .. })) as u64;
    let frames = || witness.history.count(|what| matches!(what, What::Frame { frame: Frame::Event(_), .. })) as u64;
    let end = tokio::time::Instant::now() + SOON;
    while frames() < had && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::ensure!((MOST..2 * MOST).contains(&had), "{had} of {} were kept", 2 * MOST);
    let status = witness.bus.groups().await?.into_iter().find(|status| status.name == group.name);
    let lost = status.map(|status| status.lost);
    anyhow::ensure!(lost == Some(2 * MOST - had), "{had} of {} were delivered and {lost:?} lost", 2 * MOST);
    witness.rest().await?;
    stop.cancel();
    Ok(reading.await?)
}
