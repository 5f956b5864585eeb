//! An event, and how far it has come: `GET /events/{id}`, `GET /events/{id}/status`; and `DELETE /events/{id}` of one that
//! waits for its time. The id is the cursor that its publish answered, or with `?queue=` (and `&source=`, its publisher's
//! unless said) its own, as far back as the queue's dedupe window reaches.
//!
//! Nothing is written for it: an event's standing is derived from its group's place and records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use bus::{Delivered, Place, Progress, Standing};
use events::{Envelope, Name};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    access::Caller,
    confirm::{self, LONGEST},
    cursor::Cursor,
    follow,
    problem::{Kind, Problem},
    publish,
    query::{Parameters, refuse},
    seal::Seal,
    shared::Shared,
    watch,
};

/// How long a watcher waits unless it says so.
const WATCH: Duration = Duration::from_secs(25);

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/events/{id}", get(event).delete(cancel)).route("/events/{id}/status", get(status))
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
    /// More of those groups of which there is more to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Detail>,
}

/// What goes with a standing.
#[derive(Default, Serialize)]
pub(crate) struct Detail {
    /// Which one it is, or which one comes: 1 for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// When the lease ends, unless it is extended.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    until: Option<OffsetDateTime>,
    /// When it comes again, or when it died.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    at: Option<OffsetDateTime>,
    /// The position of the event of its key whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u64>,
    /// Why it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Detail {
    fn of(standing: &Standing) -> Option<Self> {
        Some(match standing {
            Standing::Leased { attempt, until } => {
                Self { attempt: Some(*attempt), until: Some(*until), ..Self::default() }
            }
            Standing::Retrying { attempt, at } => Self { attempt: Some(*attempt), at: Some(*at), ..Self::default() },
            Standing::Parked { behind } => Self { behind: Some(*behind), ..Self::default() },
            Standing::Dead { reason, at } => Self { reason: Some(reason.clone()), at: Some(*at), ..Self::default() },
            _ => return None,
        })
    }

    fn of_all(groups: &BTreeMap<String, Option<Standing>>) -> BTreeMap<String, Self> {
        let details =
            groups.iter().filter_map(|(group, standing)| Some((group.clone(), Self::of(standing.as_ref()?)?)));
        details.collect()
    }
}

impl Status {
    pub(crate) fn new(seal: &Seal, envelope: &Envelope, place: &Place, delivered: Delivered) -> Self {
        Self {
            id: envelope.id.clone(),
            cursor: seal.text(&Cursor::of(place)),
            queue: place.queue.to_string(),
            event: envelope.event.to_string(),
            partition: place.partition,
            position: place.position,
            recordedtime: envelope.recordedtime,
            delivery: delivered.progress,
            details: Detail::of_all(&delivered.groups),
            groups: delivered.groups,
        }
    }
}

/// Where an event stands that waits for its time.
#[derive(Serialize)]
pub(crate) struct Waiting {
    pub id: String,
    pub queue: String,
    pub source: String,
    /// `scheduled`.
    pub delivery: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    pub due: OffsetDateTime,
}

/// The event that is asked for.
pub(crate) enum Named {
    Place(Place),
    Waiting(Waiting),
}

async fn event(
    State(shared): State<Shared>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let named = named(&shared, &caller, id, &mut parameters).await?;
    parameters.done("queue, source")?;
    let Named::Place(place) = named else {
        return Err(Problem::not_found("the event waits for its time; its status says when that is"));
    };
    let envelope = find(&shared, &caller, &place).await?;
    let envelope = Envelope { cursor: Some(shared.seal.text(&Cursor::of(&place))), ..(*envelope).clone() };
    Ok(([(header::CONTENT_TYPE, "application/cloudevents+json")], Json(envelope)).into_response())
}

async fn status(
    State(shared): State<Shared>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let named = named(&shared, &caller, id, &mut parameters).await?;
    let watch = parameters.flag("watch")?;
    if watch
        && follow::accepts_stream(&headers)
        && let Named::Place(place) = named
    {
        parameters.done("queue, source, watch; a stream lasts until no group is at the event any more")?;
        return watch::answer(&shared, &caller, place, &headers).await;
    }
    let patience = parameters.duration("timeout", LONGEST)?.unwrap_or(WATCH);
    parameters.done("queue, source, watch, timeout")?;
    let place = match named {
        Named::Place(place) => place,
        Named::Waiting(waiting) => return Ok(Json(waiting).into_response()),
    };
    ask(&shared, &caller, &place, watch.then_some(patience)).await.map(|status| Json(status).into_response())
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
    Ok(Status::new(&shared.seal, &envelope, place, delivered))
}

/// `DELETE /events/{id}`: 204 says that it doesn't wait any more, however often it is asked; 409 that it was recorded.
async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
) -> Result<StatusCode, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let (queue, source) = (parameters.text("queue")?, parameters.text("source")?);
    parameters.done("queue, source")?;
    let queue = queue.ok_or_else(|| refuse("queue", "must say in which queue the event waits"))?;
    let queue = Name::new(&queue).map_err(|error| refuse("queue", error))?;
    take_back(&shared, &caller, &queue, source, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes an event back that waits for its time; whether it did. Another's than the caller's own is for operators.
pub(crate) async fn take_back(
    shared: &Shared,
    caller: &Caller,
    queue: &Name,
    source: Option<String>,
    id: &str,
) -> Result<bool, Problem> {
    let own = publish::source(caller)?;
    let source = match source {
        Some(source) if source != own => {
            caller.may_operate()?;
            source
        }
        _ => own,
    };
    if shared.bus.cancel(queue, &source, id).await? {
        tracing::info!(subject = caller.subject, queue = queue.as_str(), source, id, "a scheduled event was cancelled");
        return Ok(true);
    }
    let recorded = shared.bus.find(queue, &source, id).await?;
    match recorded.and_then(|recorded| Place::of(queue, &recorded)) {
        Some(place) => {
            let detail = format!("the event is recorded already, at {}", shared.seal.text(&Cursor::of(&place)));
            Err(Problem::new(Kind::Conflict, detail))
        }
        None => Ok(false),
    }
}

/// The place, or the event that waits, which the path names.
async fn named(
    shared: &Shared,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
    parameters: &mut Parameters,
) -> Result<Named, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let source = parameters.text("source")?;
    let Some(queue) = parameters.text("queue")? else {
        return match source {
            Some(_) => Err(refuse("source", "goes with queue: an id is one of its source in its queue")),
            None => place(shared, &id).map(Named::Place),
        };
    };
    own(shared, caller, &queue, source, id).await
}

/// The event that has this id of its own; the caller's unless a source is said.
pub(crate) async fn own(
    shared: &Shared,
    caller: &Caller,
    queue: &str,
    source: Option<String>,
    id: String,
) -> Result<Named, Problem> {
    let queue = Name::new(queue).map_err(|error| refuse("queue", error))?;
    let own = publish::source(caller)?;
    let source = source.unwrap_or_else(|| own.clone());
    let found = shared.bus.find(&queue, &source, &id).await?;
    let unknown = || Problem::not_found("no such event waits, or was recorded within the queue's dedupe window");
    let found = found.ok_or_else(unknown)?;
    match (Place::of(&queue, &found), found.due) {
        (Some(place), _) => Ok(Named::Place(place)),
        (None, Some(due)) => {
            if source != own {
                caller.may_operate()?;
            }
            Ok(Named::Waiting(Waiting { id, queue: queue.to_string(), source, delivery: "scheduled", due }))
        }
        (None, None) => Err(unknown()),
    }
}

/// The place of the event that the cursor is of.
pub(crate) fn place(shared: &Shared, id: &str) -> Result<Place, Problem> {
    let cursor = shared.seal.read(id).map_err(|error| {
        refuse("id", format!("{error}; it is what a publish answered as cursor, or an event's own with ?queue="))
    })?;
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
        caller.may_read_event(&envelope)?;
    }
    Ok(envelope)
}

pub(crate) fn lost() -> Problem {
    Problem::new(Kind::Gone, "the event is not in the log any more: it went on from an earlier place, or began anew")
}
