//! Publishing over HTTP: `POST /events` in every form of CloudEvents, and `POST /events/{queue}/{event}` of bare data.
//!
//! A publisher says what happened; who it is, it doesn't say: `source` and `owner` are its principal's, whatever the event
//! claims. An event with an id that its publisher used before is not recorded again.

mod form;
mod record;

use std::time::Duration;

use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bus::{Bus, Refused};
use events::{Envelope, Name};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use telemetry::TraceContext;

pub(crate) use form::{BATCH, attributes};
pub(crate) use record::{Receipt, record, source};

use self::form::Form;
use crate::{
    access::Caller,
    body::{self, MediaType},
    confirm::Wanted,
    path::Named,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/events", post(events)).route("/events/{queue}/{event}", post(data))
}

/// Publishes an event as the caller, if it may.
pub(crate) async fn publish(
    shared: &Shared,
    caller: &Caller,
    event: Envelope,
    wanted: &Wanted,
    trace: Option<TraceContext>,
) -> Result<Receipt, Problem> {
    let receipts = record::record(shared, caller, vec![event], wanted, trace).await?;
    receipts.into_iter().next().unwrap_or_else(|| Err(Problem::invalid("no event")))
}

/// Publishes an event as it is, for an operator who has the bus itself at hand; what a client would read as the answer.
///
/// # Errors
/// If the event or the level is refused, or the bus is away.
pub async fn publish_directly(bus: &Bus, event: Envelope, confirm: &str, timeout: Duration) -> anyhow::Result<Value> {
    let refused = |problem: Problem| anyhow::anyhow!("{}", problem.detail);
    let mut wanted = Wanted::level(confirm, false).map_err(refused)?;
    wanted.timeout = timeout;
    let outcomes = record::directly(bus, vec![event], &wanted).await.map_err(refused)?;
    let receipt = outcomes.into_iter().next().context("nothing was published")?.map_err(refused)?;
    Ok(json!(receipt))
}

/// `POST /events`.
async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(&mut parameters, &headers)?;
    parameters.done("confirm, timeout, allow_degraded")?;
    let source = record::source(&caller)?;
    match form::read(&headers, body, &source).await? {
        Form::One(event) => one(&shared, &caller, *event, &wanted, &headers).await,
        Form::Batch(events) => {
            let receipts = record::record(&shared, &caller, events, &wanted, trace(&headers)).await?;
            answer_batch(receipts, &wanted)
        }
    }
}

/// `POST /events/{queue}/{event}`: the body is the data.
async fn data(
    State(shared): State<Shared>,
    caller: Caller,
    Named((queue, event)): Named<(String, String)>,
    mut parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = |field: &str, name: &str| Name::new(name).map_err(|error| refuse(field, error));
    let (queue, event) = (name("queue", &queue)?, name("event", &event)?);
    let wanted = Wanted::read(&mut parameters, &headers)?;
    let mut envelope = Envelope::new(record::source(&caller)?, queue, event);
    envelope.subject = parameters.text("subject")?;
    envelope.partitionkey = parameters.text("key")?;
    envelope.replyto = parameters.text("reply_to")?;
    if let Some(id) = parameters.text("id")? {
        envelope.id = id;
    }
    envelope.expectedversion = parameters.number("expectedversion")?;
    envelope.deliverytime = parameters.time("deliverytime")?;
    envelope.expirytime = parameters.time("expirytime")?;
    parameters.done(
        "subject, key, id, expectedversion, deliverytime, expirytime, reply_to, confirm, timeout, allow_degraded; other attributes in the forms of POST /events",
    )?;
    // Before the body is read: nobody's bytes are taken who may not publish them.
    caller.may_publish(&envelope)?;
    let media = MediaType::of(&headers)?;
    let bytes = body::read(body, Envelope::MAX_DATA_BYTES).await?;
    form::give_data(&mut envelope, media, &bytes)?;
    one(&shared, &caller, envelope, &wanted, &headers).await
}

async fn one(
    shared: &Shared,
    caller: &Caller,
    event: Envelope,
    wanted: &Wanted,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let (named, later) = (named(&event), wanted.respond_async || event.replyto.is_some());
    let receipt = publish(shared, caller, event, wanted, trace(headers)).await?;
    let event = receipt.cursor.as_ref().map(|cursor| format!("/events/{cursor}"));
    let (status, location) = if !receipt.is_reached() || later {
        (StatusCode::ACCEPTED, Some(event.map_or(named, |event| format!("{event}/status"))))
    } else if receipt.duplicate {
        (StatusCode::OK, event)
    } else {
        (StatusCode::CREATED, event)
    };
    let mut response = (status, Json(receipt)).into_response();
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(preference_applied(response, wanted))
}

/// The status of an event that has no place yet.
fn named(event: &Envelope) -> String {
    let id = utf8_percent_encode(&event.id, NON_ALPHANUMERIC);
    format!("/events/{id}/status?queue={}", event.queue)
}

/// 201, or 200 where all were duplicates; 207 where some were refused; the refusal where all were.
fn answer_batch(receipts: Vec<Result<Receipt, Problem>>, wanted: &Wanted) -> Result<Response, Problem> {
    if let Some(problem) = refused_all(&receipts) {
        return Err(problem);
    }
    let status = if receipts.iter().any(Result::is_err) {
        StatusCode::MULTI_STATUS
    } else if wanted.respond_async || receipts.iter().flatten().any(|receipt| !receipt.is_reached()) {
        StatusCode::ACCEPTED
    } else if receipts.iter().flatten().all(|receipt| receipt.duplicate) {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let events: Vec<Value> = receipts.iter().map(outcome).collect();
    Ok(preference_applied((status, Json(json!({ "events": events }))).into_response(), wanted))
}

/// Why, where every event was refused: the one that is at fault, not those that went down with it.
pub(crate) fn refused_all(receipts: &[Result<Receipt, Problem>]) -> Option<Problem> {
    let refused = receipts.iter().enumerate().map(|(at, receipt)| Some((at, receipt.as_ref().err()?)));
    let refused = refused.collect::<Option<Vec<_>>>()?;
    let (at, problem) = refused.into_iter().min_by_key(|(_, problem)| problem.detail == Refused::Batch.to_string())?;
    Some(form::problem_of(at, problem.clone()))
}

fn outcome(outcome: &Result<Receipt, Problem>) -> Value {
    match outcome {
        Ok(receipt) => json!(receipt),
        Err(problem) => json!({ "error": problem.brief() }),
    }
}

fn preference_applied(mut response: Response, wanted: &Wanted) -> Response {
    if wanted.respond_async {
        let applied = HeaderName::from_static("preference-applied");
        response.headers_mut().insert(applied, HeaderValue::from_static("respond-async"));
    }
    response
}

/// The trace of the request: the broker's own span in it, where it is recorded.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    telemetry::current().or_else(|| telemetry::extract(headers))
}
