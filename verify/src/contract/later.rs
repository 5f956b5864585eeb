//! C10: what is for later is recorded at its time, in the order of the times, once; what is taken back never is.

use std::time::Duration;

use bus::{Mode, TailFrom};
use events::Envelope;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Stage, hand::SOON};
use crate::{
    Site,
    history::{Frame, What},
    load::{Witness, follow},
};

/// The first of them are due after this; the others at two moments more.
const AHEAD: Duration = Duration::from_secs(4);
const APART: Duration = Duration::from_millis(400);
/// As [`crate::load::Wares`] has it.
const SOURCE: &str = "/verify";

pub(super) async fn scheduled(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(site.node().await?);
    let other = witness.on(site.node().await?);
    let (queue, group) = (stage.queue()?, stage.group("later", Mode::Keyed)?);
    witness.declare(&group, false).await?;
    let stop = CancellationToken::new();
    let filter = format!("{queue}/*").parse()?;
    let reading = tokio::spawn(follow(witness.clone(), "reader".into(), filter, TailFrom::Earliest, stop.clone()));

    let began = OffsetDateTime::now_utc();
    let due = |number: usize| began + AHEAD + APART * [2, 0, 1][number % 3];
    let event = |name: &str, number: usize| -> anyhow::Result<Envelope> {
        let event = stage.event(&format!("{name}-{number}"), &format!("k{}", number % 5))?;
        Ok(Envelope { deliverytime: Some(due(number)), ..event })
    };
    let count = stage.times(30);
    for (round, first) in (0..count).step_by(5).enumerate() {
        let on = if round % 2 == 0 { &witness } else { &other };
        let batch = (first..first + 5).map(|number| event("comes", number)).collect::<anyhow::Result<_>>()?;
        on.record("p", batch).await?;
    }
    for number in 0..count / 3 {
        witness.record("p", vec![event("back", number)?, event("race", number)?]).await?;
        let id = format!("back-{number}");
        let (first, second) = tokio::join!(witness.cancel(&queue, SOURCE, &id), other.cancel(&queue, SOURCE, &id));
        anyhow::ensure!(first? != second?, "one of the two takes {id} back");
    }
    let again = Envelope { deliverytime: Some(due(0) + AHEAD), ..event("comes", 0)? };
    let again = witness.publish("p", vec![again], bus::PublishOptions::default()).await?.remove(0)?;
    anyhow::ensure!(again.duplicate, "it waits already: {again:?}");
    anyhow::ensure!(!witness.bus.scheduled(&queue, None, 1).await?.is_empty(), "nothing waits");

    // At the moment at which they are due, whoever is first.
    for moment in [1, 2, 0] {
        let wait = Duration::try_from(due(moment) - OffsetDateTime::now_utc()).unwrap_or_default();
        tokio::time::sleep(wait).await;
        for number in (0..count / 3).filter(|number| number % 3 == moment) {
            let on = if number % 2 == 0 { &witness } else { &other };
            on.cancel(&queue, SOURCE, &format!("race-{number}")).await?;
        }
    }
    nothing_waits(&witness, &queue).await?;
    witness.ack_all(&group.name).await?;
    let frames = || witness.history.count(|what| matches!(what, What::Frame { frame: Frame::Event(_), .. }));
    let had = witness.history.count(|what| matches!(what, What::Delivered { .. }));
    let end = Instant::now() + SOON;
    while frames() < had && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::ensure!((count..=count + count / 3).contains(&had), "{had} were delivered");
    witness.rest().await?;
    stop.cancel();
    Ok(reading.await?)
}

/// Waits until no event of a queue waits for its time.
///
/// # Errors
/// If one does for long.
pub(crate) async fn nothing_waits(witness: &Witness, queue: &events::Name) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    while !witness.bus.scheduled(queue, None, 1).await?.is_empty() {
        anyhow::ensure!(Instant::now() < end, "something waits on after its time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
