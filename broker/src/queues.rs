//! Queues as an operator sees and sets them: `GET /queues`, `GET` and `PUT /queues/{queue}`.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use bus::{Queue, QueueStatus};
use events::Name;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::{
    access::Caller,
    body, duration,
    page::Page,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
    view::QueueView,
};

/// How long a queue may keep its events: a shorter time is surely a mistake, a longer one is for ever.
const MAX_AGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3650 * 86_400));

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/queues", get(list)).route("/queues/{queue}", get(one).put(put))
}

/// What may be set; what is left out stays, or is the default of a new queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    partitions: Option<u32>,
    max_age: Option<String>,
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<QueueView>>, Problem> {
    caller.may_look()?;
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("after, limit")?;
    let mut queues = shared.bus.queues().await?;
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let views = queues.into_iter().map(QueueView::from);
    Ok(Json(Page::of("queues", views, |queue: &QueueView| queue.name.as_str(), after.as_deref(), limit)))
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
    if Caller::is_reserved(&name) {
        return Err(Problem::forbidden(format!("the queue {name} is the bus's own")));
    }
    let settings: Settings = body::command(&headers, body).await?;
    let known = find(&shared, &name).await?;
    let mut queue = Queue::new(name.clone());
    if let Some(known) = &known {
        queue.max_age = known.max_age;
        queue.partitions = u32::try_from(known.partitions.len()).unwrap_or(u32::MAX);
    }
    if let Some(text) = &settings.max_age {
        let within = |age: &Duration| (MAX_AGE.0..=MAX_AGE.1).contains(age);
        let refused = || refuse("max_age", "must be a duration such as 36h or 7d, 1m to 3650d");
        queue.max_age = duration::parse(text).filter(within).ok_or_else(refused)?;
    }
    queue.partitions = settings.partitions.unwrap_or(queue.partitions);
    shared.bus.declare_queue(queue.clone()).await?;
    tracing::info!(
        subject = caller.subject,
        queue = name.as_str(),
        partitions = queue.partitions,
        max_age = duration::text(queue.max_age),
        "queue set"
    );
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let view = find(&shared, &name).await?.map(QueueView::from);
    Ok((status, Json(view)).into_response())
}

async fn find(shared: &Shared, name: &Name) -> Result<Option<QueueStatus>, Problem> {
    Ok(shared.bus.queues().await?.into_iter().find(|queue| queue.name == *name))
}

fn name(path: Result<Path<String>, PathRejection>) -> Result<Name, Problem> {
    let Path(name) = path.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    Name::new(&name).map_err(|error| refuse("queue", error))
}
