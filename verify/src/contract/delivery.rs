//! C4 to C7: how deliveries are given back, held, and given up.

use std::{sync::Arc, time::Duration};

use bus::{Consumer, Mode, Verb, Which};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Stage, hand::SOON};
use crate::{
    Site,
    history::{Did, What},
    load::{Effects, Handling, Witness},
};

/// C4: a failure is tried again by the schedule, or when its handler said; never where it said so.
pub(super) async fn nack(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("fails", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    witness.record("p", vec![stage.event("a", "k")?, stage.event("b", "k")?]).await?;
    let nack = |delay| Verb::Nack { delay, reason: "a bad day".into(), retryable: true };

    let first = witness.next_one(&group.name, "m").await?;
    let failed = Instant::now();
    witness.done(&group.name, &first, nack(None)).await?;
    let second = witness.next_one(&group.name, "m").await?;
    // A second, a fifth more or less; and as late as the machine is slow.
    anyhow::ensure!(failed.elapsed() >= Duration::from_millis(795), "again after {:?}", failed.elapsed());
    anyhow::ensure!((second.envelope.id.as_str(), second.attempt) == ("a", 2), "{second:?}");

    witness.done(&group.name, &second, nack(Some(Duration::from_millis(300)))).await?;
    let third = witness.next_one(&group.name, "m").await?;
    anyhow::ensure!((third.envelope.id.as_str(), third.attempt) == ("a", 3), "{third:?}");
    let never = Verb::Nack { delay: None, reason: "never".into(), retryable: false };
    witness.done(&group.name, &third, never).await?;

    // The ninth failure is the last.
    for attempt in 1..=9 {
        let leased = witness.next_one(&group.name, "m").await?;
        anyhow::ensure!((leased.envelope.id.as_str(), leased.attempt) == ("b", attempt), "{leased:?}");
        witness.done(&group.name, &leased, nack(Some(Duration::ZERO))).await?;
    }
    let letters = witness.bus.dead_letters(&group.name, (0, 0), 10).await?;
    let told: Vec<_> = letters.iter().map(|letter| (letter.reason.as_str(), letter.attempts)).collect();
    anyhow::ensure!(told == [("refused", 3), ("exhausted", 9)], "{told:?}");
    witness.rest().await
}

/// C5: what is given back unstarted comes again, uncharged; from a consumer that ends too, however it ends.
pub(super) async fn release(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("hands", Mode::Exclusive)?;
    witness.declare(&group, false).await?;
    let handlers = stage.group("handlers", Mode::Parallel)?;
    witness.declare(&handlers, true).await?;
    let events = (0..10).map(|number| stage.event(&format!("{number}"), "k")).collect::<anyhow::Result<_>>()?;
    witness.record("p", events).await?;
    for _ in 0..3 {
        for leased in witness.next(&group.name, "m", 5).await? {
            anyhow::ensure!(leased.attempt == 1, "{leased:?} was charged");
            witness.settle(&group.name, leased.token, Verb::Release).await?;
        }
    }
    witness.ack_all(&group.name).await?;

    // Dropped in the middle of all of it: its handlers end where they are, and nothing of it counts.
    let effects = Effects::default();
    let ended = consume(&witness, stage, &handlers, &effects, Duration::from_secs(60));
    let begun = || witness.history.count(|what| matches!(what, What::Handled { did: Did::Started, .. }));
    until(|| begun() >= 10).await?;
    ended.cancel();
    let ended = consume(&witness, stage, &handlers, &effects, Duration::ZERO);
    let done = || witness.history.count(|what| matches!(what, What::Handled { did: Did::Done, .. }));
    until(|| done() >= 10).await?;
    settled(&witness, &handlers.name).await?;
    witness.rest().await?;
    ended.cancel();
    Ok(())
}

/// C6: a handler that takes longer than its lease keeps it; so does a member who extends by hand.
pub(super) async fn extend(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let group = stage.group("slow", Mode::Parallel)?;
    witness.declare(&group, true).await?;
    let by_hand = stage.group("hand", Mode::Parallel)?;
    witness.declare(&by_hand, false).await?;
    witness.record("p", vec![stage.event("a", "k")?, stage.event("b", "l")?]).await?;
    let effects = Effects::default();
    let slow = group.lease.mul_f64(2.5);
    let one = consume(&witness, stage, &group, &effects, slow);
    let other = consume(&witness, stage, &group, &effects, slow);

    let leased = witness.next(&by_hand.name, "m", 2).await?;
    for _ in 0..6 {
        tokio::time::sleep(by_hand.lease / 3).await;
        for leased in &leased {
            witness.done(&by_hand.name, leased, Verb::Extend).await?;
        }
        let others = witness.claim(&by_hand.name, "other", 2).await?.leased;
        anyhow::ensure!(others.is_empty(), "{others:?} came while it was held");
    }
    for leased in &leased {
        witness.done(&by_hand.name, leased, Verb::Ack).await?;
    }
    until(|| witness.history.count(|what| matches!(what, What::Handled { did: Did::Done, .. })) >= 2).await?;
    settled(&witness, &group.name).await?;
    witness.rest().await?;
    one.cancel();
    other.cancel();
    Ok(())
}

/// C7: dead letters are their group's alone, and come back to it alone.
pub(super) async fn dead(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let (fails, works) = (stage.group("fails", Mode::Keyed)?, stage.group("works", Mode::Keyed)?);
    witness.declare(&fails, false).await?;
    witness.declare(&works, false).await?;
    let events = (0..6).map(|number| stage.event(&format!("{number}"), "k")).collect::<anyhow::Result<_>>()?;
    witness.record("p", events).await?;
    witness.ack_all(&works.name).await?;
    for _ in 0..6 {
        let leased = witness.next_one(&fails.name, "m").await?;
        witness.done(&fails.name, &leased, Verb::Dead { reason: "never".into() }).await?;
    }
    let letters = witness.bus.dead_letters(&fails.name, (0, 0), 10).await?;
    anyhow::ensure!(letters.len() == 6, "{} letters", letters.len());
    let some = letters[..2].iter().map(|letter| (letter.partition, letter.position)).collect();
    anyhow::ensure!(witness.discard(&fails.name, Which::These(some)).await? == 2, "two are discarded");
    anyhow::ensure!(witness.redrive(&fails.name, Which::All).await? == 4, "four come back");
    for number in 2..6 {
        let leased = witness.next_one(&fails.name, "m").await?;
        let expected = (number.to_string(), 1, 1);
        anyhow::ensure!((leased.envelope.id.clone(), leased.attempt, leased.redrive) == expected, "{leased:?}");
        witness.done(&fails.name, &leased, Verb::Ack).await?;
    }
    anyhow::ensure!(witness.claim(&works.name, "m", 10).await?.leased.is_empty(), "the other group gets none");
    witness.rest().await
}

/// A consumer that works until it is dropped.
fn consume(
    witness: &Witness,
    stage: &Stage,
    group: &bus::Group,
    effects: &Effects,
    slow: Duration,
) -> CancellationToken {
    let member = format!("consumer-{}", witness.history.op());
    let handling = Handling {
        history: witness.history.clone(),
        group: group.name.clone(),
        rng: Mutex::new(stage.rng(&member)),
        member,
        effects: effects.clone(),
        slow,
        fails: 0,
        panics: 0,
    };
    let consumer = Consumer::new(witness.bus.clone(), group.clone(), Arc::new(handling));
    let drop = CancellationToken::new();
    tokio::spawn(consumer.run(CancellationToken::new(), drop.clone()));
    drop
}

async fn until(holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    while !holds() {
        anyhow::ensure!(Instant::now() < end, "it takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn settled(witness: &Witness, group: &str) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let status = witness.bus.groups().await?.into_iter().find(|status| status.name == group);
        if status.is_none_or(|status| status.lag == 0) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "something stays with {group}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
