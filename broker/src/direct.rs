//! For an operator who has the bus itself at hand: an event and how far it has come, as a client would read it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use bus::{Bus, Place};
use events::Envelope;
use serde_json::{Value, json};

use crate::{cursor::Cursor, seal::Seal, status::Status};

/// The event of this cursor, as `GET /events/{cursor}` answers it.
///
/// # Errors
/// If it is no cursor of one event, the event is not in the log any more, or the bus is away.
pub async fn event_directly(bus: &Bus, cursor: &str) -> anyhow::Result<Value> {
    let place = place(cursor)?;
    let envelope = Envelope { cursor: Some(cursor.to_owned()), ..(*read(bus, &place).await?).clone() };
    Ok(json!(envelope))
}

/// Where the event of this cursor stands, as `GET /events/{cursor}/status` answers it; with `watch`, once every group is done
/// with it, at most after so long.
///
/// # Errors
/// As [`event_directly`].
pub async fn status_directly(bus: &Bus, cursor: &str, watch: Option<Duration>) -> anyhow::Result<Value> {
    let place = place(cursor)?;
    let envelope = read(bus, &place).await?;
    let delivered = match watch {
        Some(patience) => bus.wait_settled(&place, patience).await?,
        None => bus.delivered(&place, &[]).await?,
    };
    ensure!(!delivered.lost, GONE);
    Ok(json!(Status::new(&Seal::default(), &envelope, &place, delivered)))
}

const GONE: &str = "the event is not in the log any more";

fn place(cursor: &str) -> anyhow::Result<Place> {
    let cursor: Cursor = cursor.parse().context("it is what a publish answered as cursor")?;
    cursor.event().context("it is a reader's place, not one event's")
}

async fn read(bus: &Bus, place: &Place) -> anyhow::Result<Arc<Envelope>> {
    let page = bus.read(&place.queue, place.partition, place.position, 1).await?;
    ensure!(
        page.lineages.current().is_some(),
        "there is no queue {} with a partition {}",
        place.queue,
        place.partition
    );
    ensure!(page.lineages.holds(place.lineage, place.position), GONE);
    let found = page.events.into_iter().find(|logged| logged.position == place.position);
    Ok(found.context(GONE)?.envelope)
}
