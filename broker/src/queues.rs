//! Queues as an operator sees and sets them: `GET /queues`, `GET` and `PUT /queues/{queue}`,
//! `GET /queues/{queue}/scheduled`.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use bus::{Overflow, Queue, QueueStatus, Turn, presence};
use events::Name;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer};

use crate::{
    access::Caller,
    body, duration,
    page::Page,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
    view::{QueueView, ScheduledView},
};

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/queues", get(list))
        .route("/queues/{queue}", get(one).put(put))
        .route("/queues/{queue}/scheduled", get(scheduled))
}

/// What may be set; what is left out stays, or is the default of a new queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    partitions: Option<u32>,
    max_age: Option<String>,
    /// Null: no limit any more.
    #[serde(default, deserialize_with = "given")]
    max_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    max_len: Option<Option<u64>>,
    overflow: Option<Overflow>,
    dedupe: Option<String>,
    latest: Option<bool>,
    realtime: Option<bool>,
    journal: Option<bool>,
}

/// A null that was written is something else than nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Settings {
    /// A queue with these settings instead of those it had.
    fn set(self, queue: Queue) -> Result<Queue, Problem> {
        let time = |field, text: Option<String>, had| {
            let refused = || refuse(field, "must be a duration such as 36h or 7d");
            text.map_or(Ok(had), |text| duration::parse(&text).ok_or_else(refused))
        };
        Ok(Queue {
            partitions: self.partitions.unwrap_or(queue.partitions),
            max_age: time("max_age", self.max_age, queue.max_age)?,
            max_bytes: self.max_bytes.unwrap_or(queue.max_bytes),
            max_len: self.max_len.unwrap_or(queue.max_len),
            overflow: self.overflow.unwrap_or(queue.overflow),
            dedupe: time("dedupe", self.dedupe, queue.dedupe)?,
            latest: self.latest.unwrap_or(queue.latest),
            realtime: self.realtime.unwrap_or(queue.realtime),
            journal: self.journal.unwrap_or(queue.journal),
            name: queue.name,
        })
    }
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<QueueView>>, Problem> {
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("after, limit")?;
    let views = all(&shared, &caller).await?.into_iter().map(QueueView::from);
    Ok(Json(Page::of("queues", views, |queue: &QueueView| queue.name.as_str(), after.as_deref(), limit)))
}

/// The queues that there are, by name.
pub(crate) async fn all(shared: &Shared, caller: &Caller) -> Result<Vec<QueueStatus>, Problem> {
    caller.may_look()?;
    let mut queues = shared.bus.queues().await?;
    queues.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    Ok(queues)
}

async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Json<QueueView>, Problem> {
    caller.may_look()?;
    let queue = name(path)?;
    parameters.done("nothing is")?;
    let found = find(&shared, &queue).await?;
    found.map(|status| Json(status.into())).ok_or_else(|| Problem::not_found(format!("no queue {queue}")))
}

async fn put(
    State(shared): State<Shared>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may_operate()?;
    let name = name(path)?;
    parameters.done("nothing is")?;
    let settings: Settings = body::command(&headers, body).await?;
    let (queue, is_new) = change(&shared, &caller, name, |queue| settings.set(queue)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(QueueView::from(queue))).into_response())
}

/// Makes a queue, or sets what changes of it, and logs who did; whether it is new.
pub(crate) async fn change(
    shared: &Shared,
    caller: &Caller,
    name: Name,
    set: impl FnOnce(Queue) -> Result<Queue, Problem>,
) -> Result<(QueueStatus, bool), Problem> {
    caller.may_operate()?;
    // How long it is known who came and went is the operator's to say, though the bus writes it.
    if Caller::is_reserved(&name) && !presence::is_attended(&name) {
        return Err(Problem::forbidden(format!("the queue {name} is the bus's own")));
    }
    let known = find(shared, &name).await?;
    let is_new = known.is_none();
    let queue = set(known.map_or_else(|| Queue::initial(name.clone()), |known| known.settings))?;
    if queue.journal && shared.journal.is_none() {
        // What says that it is kept must be kept.
        return Err(Problem::new(Kind::Conflict, "journal: this broker has no database to keep events in"));
    }
    shared.bus.declare_queue(queue.clone()).await?;
    tracing::info!(subject = caller.subject, queue = name.as_str(), settings = ?queue, "queue set");
    let status = find(shared, &name).await?.ok_or_else(|| Problem::not_found(format!("no queue {name}")))?;
    Ok((status, is_new))
}

/// What waits for its time in a queue. It shows events.
async fn scheduled(
    State(shared): State<Shared>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Json<Page<ScheduledView>>, Problem> {
    caller.may_operate()?;
    let queue = name(path)?;
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("after, limit")?;
    let after = after.map(|text| turn(&text).ok_or_else(|| refuse("after", "is not what a page gave as next")));
    let scheduled = shared.bus.scheduled(&queue, after.transpose()?, limit).await?;
    // Bounded by bytes too: a page that is not full may not be the last one.
    let next = scheduled.last().map(|last| last.turn);
    let views = scheduled.iter().map(ScheduledView::from).collect();
    Ok(Json(Page::ending(
        "scheduled",
        views,
        next.map(|Turn { partition, due, arrival }| format!("{partition}:{due}:{arrival}")),
    )))
}

fn turn(text: &str) -> Option<Turn> {
    let mut parts = text.split(':');
    let turn = Turn {
        partition: parts.next()?.parse().ok()?,
        due: parts.next()?.parse().ok()?,
        arrival: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(turn)
}

async fn find(shared: &Shared, name: &Name) -> Result<Option<QueueStatus>, Problem> {
    Ok(shared.bus.queues().await?.into_iter().find(|queue| queue.settings.name == *name))
}

fn name(path: Result<Path<String>, PathRejection>) -> Result<Name, Problem> {
    let Path(name) = path.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    Name::new(&name).map_err(|error| refuse("queue", error))
}
