//! An event, and how far it has come: `GET /events/{id}`, `GET /events/{id}/status`, where the id is the cursor that its
//! publish answered.
//!
//! Nothing is written for it: an event's standing is derived from its group's place and records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use bus::{Place, Progress, Standing};
use events::Envelope;
use http::header;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    access::Caller,
    confirm::{self, LONGEST},
    cursor::Cursor,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
};

/// How long a watcher waits unless it says so.
const WATCH: Duration = Duration::from_secs(25);

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/events/{id}", get(event)).route("/events/{id}/status", get(status))
}

/// Where an event stands; the field names are promised.
#[derive(Serialize)]
pub(crate) struct Status {
    pub id: String,
    pub cursor: String,
    pub queue: String,
    pub event: String,
    pub partition: u32,
    pub position: u64,
    #[serde(with = "time::serde::rfc3339::option")]
    pub recordedtime: Option<OffsetDateTime>,
    pub delivery: Progress,
    pub groups: BTreeMap<String, Option<Standing>>,
}

async fn event(
    State(shared): State<Shared>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let place = named(id, &parameters)?;
    parameters.done("nothing is")?;
    let envelope = find(&shared, &caller, &place).await?;
    let envelope = Envelope { cursor: Some(Cursor::of(&place).to_string()), ..(*envelope).clone() };
    Ok(([(header::CONTENT_TYPE, "application/cloudevents+json")], Json(envelope)).into_response())
}

async fn status(
    State(shared): State<Shared>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Json<Status>, Problem> {
    let place = named(id, &parameters)?;
    let watch = parameters.flag("watch")?;
    let patience = parameters.duration("timeout", LONGEST)?.unwrap_or(WATCH);
    parameters.done("watch, timeout")?;
    ask(&shared, &caller, &place, watch.then_some(patience)).await.map(Json)
}

/// Where an event stands now, or once every group is done with it, at most after `watch`.
pub(crate) async fn ask(
    shared: &Shared,
    caller: &Caller,
    place: &Place,
    watch: Option<Duration>,
) -> Result<Status, Problem> {
    let envelope = find(shared, caller, place).await?;
    let delivered = match watch {
        Some(patience) => {
            let _waiter = confirm::waiter(&shared.waiters)?;
            let waiting = shared.bus.wait_settled(place, patience);
            confirm::unless_draining(&shared.bus, shared.shutdown.draining(), place, &[], waiting).await?
        }
        None => shared.bus.delivered(place, &[]).await?,
    };
    if delivered.lost {
        return Err(lost());
    }
    Ok(Status {
        id: envelope.id.clone(),
        cursor: Cursor::of(place).to_string(),
        queue: place.queue.to_string(),
        event: envelope.event.to_string(),
        partition: place.partition,
        position: place.position,
        recordedtime: envelope.recordedtime,
        delivery: delivered.progress,
        groups: delivered.groups,
    })
}

/// The place that the path names.
fn named(id: Result<Path<String>, PathRejection>, parameters: &Parameters) -> Result<Place, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    if let Some(name) = ["queue", "source"].into_iter().find(|name| parameters.has(name)) {
        return Err(refuse(
            name,
            "finding an event by its own id is not offered yet; use the cursor that its publish answered",
        ));
    }
    place(&id)
}

/// The place of the event that the cursor is of.
pub(crate) fn place(id: &str) -> Result<Place, Problem> {
    let cursor: Cursor =
        id.parse().map_err(|error| refuse("id", format!("{error}; it is what a publish answered as cursor")))?;
    cursor.event().ok_or_else(|| refuse("id", "is a reader's place, not one event's"))
}

/// The event, if it is there and the caller may see it.
pub(crate) async fn find(shared: &Shared, caller: &Caller, place: &Place) -> Result<Arc<Envelope>, Problem> {
    // Not even which queues there are is for everybody to try out.
    if caller.subject.is_none() {
        return Err(Problem::new(Kind::Unauthenticated, "asking for an event needs to know who asks"));
    }
    let page = shared.bus.read(&place.queue, place.partition, place.position, 1).await?;
    if page.lineages.current().is_none() {
        return Err(Problem::not_found(format!("no queue {} with a partition {}", place.queue, place.partition)));
    }
    if !page.lineages.holds(place.lineage, place.position) || place.position >= page.next {
        return Err(lost());
    }
    if place.position < page.floor {
        return Err(Problem::new(Kind::Gone, "the event is older than its queue keeps"));
    }
    let found = page.events.into_iter().find(|logged| logged.position == place.position);
    let envelope = found.ok_or_else(|| Problem::new(Kind::Gone, "the event can't be read any more"))?.envelope;
    if envelope.owner != caller.subject {
        let filter = events::Filter::one(envelope.queue.clone(), envelope.event.clone());
        if !caller.may_read(&filter.into())?.sees(&envelope) {
            return Err(Problem::forbidden("the event is somebody else's"));
        }
    }
    Ok(envelope)
}

fn lost() -> Problem {
    Problem::new(Kind::Gone, "the event is not in the log any more: it went on from an earlier place, or began anew")
}
