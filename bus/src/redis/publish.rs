use super::shared::Shared;
use crate::{Error, Outcome, PublishOptions};
use events::Envelope;

pub(super) async fn publish(
    shared: &Shared,
    events: Vec<Envelope>,
    options: PublishOptions,
) -> Result<Vec<Outcome>, Error> {
    let _ = (shared, events, options);
    todo!("publish")
}
