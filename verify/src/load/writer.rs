//! A writer who says which event of a key its own follows.

use std::time::Duration;

use bus::{Error, Outcome, PublishOptions, Refused};
use events::Envelope;

use super::Witness;

/// How often it tries, where somebody else is always faster or the bus is away.
const TRIES: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);

/// Publishes behind its key's last event, until nobody was faster. `event`: another one each time, by its number.
///
/// # Errors
/// If the bus stays away, refuses it otherwise, or it is always too late.
pub async fn write_behind(witness: &Witness, publisher: &str, event: impl Fn(usize) -> Envelope) -> anyhow::Result<()> {
    for attempt in 0..TRIES {
        match attempt_behind(witness, publisher, event(attempt)).await {
            Ok(Some(Ok(_))) => return Ok(()),
            Ok(Some(Err(Refused::VersionConflict { .. }))) => {}
            Err(Error::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            other => anyhow::bail!("{other:?}"),
        }
    }
    anyhow::bail!("{publisher} was always too late")
}

async fn attempt_behind(witness: &Witness, publisher: &str, event: Envelope) -> Result<Option<Outcome>, Error> {
    let version = witness.bus.latest(&event.queue, event.key()).await?.map_or(0, |logged| logged.position);
    let event = Envelope { expectedversion: Some(version), ..event };
    Ok(witness.publish(publisher, vec![event], PublishOptions::default()).await?.pop())
}
