//! Which event is meant: the one of a cursor, or of its own id.

use anyhow::{Context as _, bail};
use bus::Bus;
use events::Name;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{args, client::SOURCE, gateway::encoded};

/// Where a gateway tells of an event, or with `watch` goes on telling.
pub fn path(event: &args::Event, what: &str, watch: bool) -> String {
    let said = [
        ("queue", event.queue.as_ref().map(Name::to_string)),
        ("source", event.source.clone()),
        ("watch", watch.then(|| "1".to_owned())),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
    let path = format!("/events/{}{what}", encoded(&event.cursor));
    match said.collect::<Vec<_>>() {
        said if said.is_empty() => path,
        said => format!("{path}?{}", said.join("&")),
    }
}

/// An event that somebody names.
pub enum Named {
    Cursor(String),
    /// It waits for its time: what is to be said of it.
    Waiting(Value),
}

pub async fn named(bus: &Bus, event: &args::Event) -> anyhow::Result<Named> {
    let Some(queue) = &event.queue else { return Ok(Named::Cursor(event.cursor.clone())) };
    let (id, source) = (&event.cursor, event.source.as_deref().unwrap_or(SOURCE));
    let found = bus.find(queue, source, id).await?;
    let found = found.context("no such event waits, or was recorded within the queue's dedupe window")?;
    match (found.position, found.due) {
        (Some(position), _) => {
            let place = [(found.partition, found.lineage, position)].into_iter().collect();
            Ok(Named::Cursor(broker::cursor_text(queue, &place)))
        }
        (None, Some(due)) => {
            let due = due.format(&Rfc3339)?;
            let status = json!({"id": id, "queue": queue, "source": source, "delivery": "scheduled", "due": due});
            Ok(Named::Waiting(status))
        }
        (None, None) => bail!("it was recorded, and nobody knows where any more"),
    }
}
