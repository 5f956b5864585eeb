//! C11, asynchronous: whoever asked for a receipt gets one, which says what became of the event.

use std::time::Duration;

use bus::{Mode, Receipts, Verb};
use events::{Envelope, Name};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Stage, hand::SOON};
use crate::{
    Site,
    load::{Witness, receipts as tell_receipts},
};

/// What expires, does so after this.
const ENDS: Duration = Duration::from_millis(1_500);

/// Two give receipts, one of whom goes meanwhile; groups acknowledge, refuse, and come too late.
pub(super) async fn receipts(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let other = witness.on(site.node().await?);
    let replies = Name::new(&format!("{}-R", stage.queue()?))?;
    let groups = [stage.group("works", Mode::Keyed)?, stage.group("fails", Mode::Parallel)?];
    for group in &groups {
        witness.declare(group, false).await?;
    }
    let (first, second) = (give(&witness), give(&other));
    let wanting = |id: String| -> anyhow::Result<Envelope> {
        let event = stage.event(&id, &format!("k{}", id.len() % 3))?;
        Ok(Envelope { replyto: Some(format!("queue:{replies}")), ..event })
    };
    let count = stage.times(12);
    let expirytime = Some(OffsetDateTime::now_utc() + ENDS);
    let over = (0..count / 4)
        .map(|number| Ok(Envelope { expirytime, ..wanting(format!("over-{number}"))? }))
        .collect::<anyhow::Result<Vec<_>>>()?;
    witness.record("p", over).await?;
    tokio::time::sleep(ENDS).await;

    for number in 0..count {
        let on = if number % 2 == 0 { &witness } else { &other };
        on.record("p", vec![wanting(format!("told-{number}"))?, stage.event(&format!("quiet-{number}"), "k")?]).await?;
    }
    let refuse = |id: &str| id.starts_with("told-") && id.ends_with('3');
    let [works, fails] = &groups;
    settle(&witness, &fails.name, refuse).await?;
    first.cancel();
    settle(&witness, &works.name, |_| false).await?;
    let wanted = count + count / 4;
    let end = Instant::now() + SOON;
    loop {
        let given = witness.bus.read(&replies, 0, 1, 1_000).await?.events.len();
        if given >= wanted {
            break;
        }
        anyhow::ensure!(Instant::now() < end, "{given} of {wanted} receipts came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.cancel();
    tell_receipts(&witness, &replies).await?;
    witness.rest().await
}

/// Gives receipts until it is told to end.
pub(crate) fn give(witness: &Witness) -> CancellationToken {
    let (drain, drop) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(Receipts::new(witness.bus.clone()).run(drain.clone(), drop));
    drain
}

/// Settles everything that comes, until there is nothing: refuses some, acknowledges the others.
async fn settle(witness: &Witness, group: &str, refuses: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        for leased in witness.claim(group, "m", 8).await?.leased {
            let refused = refuses(&leased.envelope.id);
            let verb = if refused { Verb::Dead { reason: "never".into() } } else { Verb::Ack };
            witness.settle(group, leased.token, verb).await?;
        }
        let status = witness.bus.groups().await?.into_iter().find(|status| status.name == group);
        if status.is_none_or(|status| status.lag == 0) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "something stays with {group}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
