//! C8, C9, C12: where a group begins and is moved to, what its filter takes, and where each event stands with it.

use std::time::Duration;

use bus::{Group, Mode, Queue, Start, TailFrom, Verb};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{Stage, hand::SOON};
use crate::{
    Site,
    history::{Frame, What},
    load::follow,
};

/// C8: earliest, latest, a time; a seek, and its dry run.
pub(super) async fn seek(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let event = |number: usize| stage.event(&format!("{number}"), &format!("k{number}"));
    let batch = |numbers: std::ops::Range<usize>| numbers.map(event).collect::<anyhow::Result<Vec<_>>>();
    witness.record("p", batch(0..5)?).await?;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let between = OffsetDateTime::now_utc();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let starts = [("earliest", Start::Earliest, 10), ("latest", Start::Latest, 5), ("time", Start::Time(between), 5)];
    for (name, start, _) in starts {
        witness.declare(&Group { start, ..stage.group(name, Mode::Parallel)? }, false).await?;
    }
    witness.record("p", batch(5..10)?).await?;
    for (name, _, expected) in starts {
        let group = stage.group(name, Mode::Parallel)?.name;
        let mut had = Vec::new();
        while had.len() < expected {
            for leased in witness.next(&group, "m", 10).await? {
                witness.done(&group, &leased, Verb::Ack).await?;
                had.push(leased.position);
            }
        }
        had.sort_unstable();
        let first = 11 - expected as u64;
        anyhow::ensure!(had.iter().copied().eq(first..=10), "{name} began with {had:?}");
        anyhow::ensure!(witness.claim(&group, "m", 10).await?.leased.is_empty(), "{name} gets more than there is");
    }

    let group = stage.group("earliest", Mode::Parallel)?.name;
    let dry = witness.bus.seek(&group, Start::Position(4), true).await?;
    anyhow::ensure!((dry.again, dry.skipped) == (7, 0), "{dry:?}");
    anyhow::ensure!(witness.claim(&group, "m", 10).await?.leased.is_empty(), "a dry run moves nothing");
    anyhow::ensure!(witness.seek(&group, Start::Position(4)).await? == dry, "it does what it said");
    // A lease that the next move takes away.
    let leased = witness.next_one(&group, "m").await?;
    witness.seek(&group, Start::Position(4)).await?;
    let lost = witness.settle(&group, leased.token, Verb::Ack).await?;
    anyhow::ensure!(lost == crate::history::Settled::LeaseLost, "a moved group's old token settles");
    witness.ack_all(&group).await?;
    witness.rest().await
}

/// C9: groups and readers with filters, over several partitions.
pub(super) async fn filters(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    witness.bus.declare_queue(Queue { partitions: 2, ..Queue::new(stage.queue()?) }).await?;
    let all = stage.group("all", Mode::Parallel)?;
    let filter: events::Filter = format!("{}/UPDATE", stage.queue()?).parse()?;
    let some = Group { filter: filter.clone(), ..stage.group("some", Mode::Keyed)? };
    witness.declare(&all, false).await?;
    witness.declare(&some, false).await?;
    let stop = CancellationToken::new();
    let reading = follow(witness.clone(), "filtered".into(), filter, TailFrom::Earliest, stop.clone());
    let reading = tokio::spawn(reading);
    let (wares, count) = (stage.wares(1)?, stage.times(40));
    for number in 0..count {
        // Every second one is an update.
        let event = wares.event(&number.to_string(), &format!("k{}", number % 7), number);
        witness.record("p", vec![event]).await?;
    }
    witness.ack_all(&all.name).await?;
    witness.ack_all(&some.name).await?;
    let frames = || witness.history.count(|what| matches!(what, What::Frame { frame: Frame::Event(_), .. }));
    let end = tokio::time::Instant::now() + SOON;
    while frames() < count / 2 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let had = witness.history.count(|what| matches!(what, What::Delivered { group, .. } if *group == some.name));
    anyhow::ensure!((had, frames()) == (count / 2, count / 2), "{had} delivered and {} read of {count}", frames());
    witness.rest().await?;
    stop.cancel();
    Ok(reading.await?)
}

/// C12: every standing there is.
pub(super) async fn standings(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("keyed", Mode::Keyed)?;
    let name = group.name.as_str();
    let events: Vec<_> = [("before", "a"), ("one", "k"), ("two", "k"), ("three", "l")]
        .into_iter()
        .map(|(id, key)| stage.event(id, key))
        .collect::<anyhow::Result<_>>()?;
    let before = witness.record("p", vec![events[0].clone()]).await?[0];
    witness.declare(&Group { start: Start::Latest, ..group.clone() }, false).await?;
    let filter = format!("{}/UPDATE", stage.queue()?).parse()?;
    let other = Group { filter, ..stage.group("other", Mode::Parallel)? };
    witness.declare(&other, false).await?;
    let at = witness.record("p", events[1..].to_vec()).await?;
    let (one, two, three) = (at[0], at[1], at[2]);
    witness.stands(&events[0], before, name, "not_applicable").await?;
    witness.stands(&events[1], one, name, "pending").await?;
    witness.stands(&events[1], one, &other.name, "filtered").await?;
    witness.stands(&events[1], three + 100, name, "unknown").await?;
    let leased = witness.next(name, "m", 10).await?;
    anyhow::ensure!(leased.len() == 2, "one of each key: {leased:?}");
    witness.stands(&events[1], one, name, "leased").await?;
    witness.stands(&events[2], two, name, "parked").await?;
    let nack = Verb::Nack { delay: Some(Duration::from_millis(1_500)), reason: "later".into(), retryable: true };
    witness.done(name, &leased[0], nack).await?;
    witness.stands(&events[1], one, name, "retrying").await?;
    witness.stands(&events[2], two, name, "parked").await?;
    witness.done(name, &leased[1], Verb::Dead { reason: "never".into() }).await?;
    witness.stands(&events[3], three, name, "dead").await?;
    let again = witness.next_one(name, "m").await?;
    witness.done(name, &again, Verb::Ack).await?;
    witness.stands(&events[1], one, name, "acked").await?;
    witness.ack_all(name).await?;
    witness.rest().await
}
