//! Webhooks over HTTP: `POST GET PATCH DELETE /webhooks`, `/webhooks/{id}/{enable,disable,test,attempts,rotate}`, and `POST
//! /webhooks/ack/{token}`, which receivers call without being anybody.
//!
//! An endpoint belongs to the subject that registered it, which needs `webhooks:read` or `webhooks:write` for it, and a scope to
//! read each event that it is to get; `bus:admin` may look after all. Another one's doesn't exist.

mod asked;
mod view;

use ::webhooks::{AckError, Attempts, Endpoint, Late, Webhooks};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use events::Pattern;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use self::{
    asked::{Changed, Given, Registered, Resume},
    view::{AttemptView, WebhookView},
};
use crate::{
    access::Caller,
    body,
    filter::Filter,
    page::Page,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
};

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/webhooks", get(list).post(create))
        .route("/webhooks/{id}", get(one).patch(change).delete(remove))
        .route("/webhooks/{id}/enable", post(enable))
        .route("/webhooks/{id}/disable", post(disable))
        .route("/webhooks/{id}/test", post(test))
        .route("/webhooks/{id}/attempts", get(attempts))
        .route("/webhooks/{id}/rotate", post(rotate))
        .route("/webhooks/ack/{token}", post(acknowledge))
}

type Id = Result<Path<String>, PathRejection>;

/// The webhooks of this broker.
///
/// # Errors
/// If it has no database to keep them in.
pub(crate) fn of(shared: &Shared) -> Result<&Webhooks, Problem> {
    let none = || Problem::new(Kind::NotSupported, "this broker has no database to keep webhooks in");
    shared.webhooks.as_ref().ok_or_else(none)
}

/// An endpoint, where the caller may know of it.
pub(crate) async fn own(shared: &Shared, caller: &Caller, id: &str) -> Result<Endpoint, Problem> {
    let found = of(shared)?.get(id).await?;
    match caller.owns(found.owner.as_deref()) {
        true => Ok(found),
        false => Err(::webhooks::Error::NoEndpoint(id.to_owned()).into()),
    }
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<WebhookView>>, Problem> {
    caller.may_see_webhooks()?;
    let (after, limit, owner) = (parameters.text("after")?, parameters.limit()?, parameters.text("owner")?);
    let enabled = match parameters.text("state")?.as_deref() {
        None => None,
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => return Err(refuse("state", "must be enabled or disabled")),
    };
    parameters.done("owner, state, after, limit")?;
    // Who isn't an operator sees its own, whatever it asks for.
    let owner = if caller.operates() { owner } else { caller.subject.clone() };
    let webhooks = of(&shared)?;
    let found = webhooks.list(owner.as_deref(), enabled, after.as_deref(), limit + 1).await?;
    let standings = webhooks.standings(&found).await?;
    let views =
        found.into_iter().zip(standings).map(|(endpoint, standing)| WebhookView::of(endpoint, &standing)).collect();
    Ok(Json(Page::cut("webhooks", views, |view: &WebhookView| view.id.clone(), limit)))
}

async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may_change_webhooks()?;
    parameters.done("nothing is")?;
    let asked: Registered = body::command(&headers, body).await?;
    let new = asked.endpoint(&caller)?;
    let (endpoint, secret) = of(&shared)?.create(new).await?;
    tracing::info!(subject = caller.subject, webhook = endpoint.id, host = endpoint.host(), "webhook registered");
    let location = HeaderValue::try_from(format!("/webhooks/{}", endpoint.id));
    let mut view = json!(WebhookView::of(endpoint, &Default::default()));
    view[key_name(&secret)] = json!(secret);
    let mut response = (StatusCode::CREATED, secret_answer(view)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
) -> Result<Json<WebhookView>, Problem> {
    caller.may_see_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    let endpoint = own(&shared, &caller, &id).await?;
    view(&shared, endpoint).await
}

async fn change(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<WebhookView>, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    let endpoint = own(&shared, &caller, &id).await?;
    let asked: Changed = body::command(&headers, body).await?;
    if asked.moves() && !caller.operates() {
        // Who has it sent elsewhere reads it there.
        let terms = Pattern::list(&endpoint.filter).map_err(|error| refuse("filter", error))?;
        caller.may_read(&Filter { terms })?;
    }
    let endpoint = of(&shared)?.change(&id, asked.change(&caller)?).await?;
    tracing::info!(subject = caller.subject, webhook = id, "webhook changed");
    view(&shared, endpoint).await
}

async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
) -> Result<StatusCode, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    own(&shared, &caller, &id).await?;
    of(&shared)?.remove(&id).await?;
    tracing::info!(subject = caller.subject, webhook = id, "webhook removed");
    Ok(StatusCode::NO_CONTENT)
}

async fn enable(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    own(&shared, &caller, &id).await?;
    let asked: Resume = body::command_or_none(&headers, body).await?.unwrap_or_default();
    let dry_run = asked.dry_run;
    let resumed = of(&shared)?.enable(&id, asked.begin()?, dry_run).await?;
    if !dry_run {
        tracing::info!(subject = caller.subject, webhook = id, count = resumed.count, "webhook enabled");
    }
    Ok(Json(json!({
        "count": resumed.count,
        "again": resumed.again,
        "skipped": resumed.skipped,
        "lost": resumed.before.lost,
        "lost_ranges": view::lost(&resumed.before),
        "dry_run": dry_run,
    })))
}

async fn disable(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
) -> Result<Json<WebhookView>, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    own(&shared, &caller, &id).await?;
    if of(&shared)?.disable(&id).await? {
        tracing::info!(subject = caller.subject, webhook = id, "webhook disabled");
    }
    let endpoint = own(&shared, &caller, &id).await?;
    view(&shared, endpoint).await
}

async fn test(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
) -> Result<Json<AttemptView>, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    own(&shared, &caller, &id).await?;
    Ok(Json(of(&shared)?.test(&id).await?.into()))
}

async fn attempts(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    mut parameters: Parameters,
) -> Result<Json<Page<AttemptView>>, Problem> {
    caller.may_see_webhooks()?;
    let id = named(id)?;
    let before = match parameters.text("after")? {
        Some(text) => Some(text.parse().map_err(|_| refuse("after", "must be what a page gave as next"))?),
        None => None,
    };
    let (limit, event, failed) = (parameters.limit()?, parameters.text("event")?, parameters.flag("failed")?);
    parameters.done("event, failed, after, limit")?;
    own(&shared, &caller, &id).await?;
    let mut found = of(&shared)?.attempts(&id, &Attempts { before, event, failed }, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(at, _)| at.to_string());
    Ok(Json(Page::ending("attempts", found.into_iter().map(|(_, attempt)| attempt.into()).collect(), next)))
}

async fn rotate(
    State(shared): State<Shared>,
    caller: Caller,
    id: Id,
    parameters: Parameters,
) -> Result<Response, Problem> {
    caller.may_change_webhooks()?;
    let id = named(id)?;
    parameters.done("nothing is")?;
    own(&shared, &caller, &id).await?;
    let (secret, until) = of(&shared)?.rotate(&id).await?;
    tracing::info!(subject = caller.subject, webhook = id, "webhook's secret rotated");
    Ok(secret_answer(json!({ key_name(&secret): secret, "former_until": view::rfc3339(until) })).into_response())
}

/// Whoever has the address may: it was given to the receiver alone.
async fn acknowledge(
    State(shared): State<Shared>,
    token: Id,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let token = named(token)?;
    parameters.done("nothing is")?;
    let late = match body::command_or_none::<Given>(&headers, body).await? {
        Some(Given { ok: false, reason }) => Late::Failed(reason.unwrap_or_default()),
        Some(Given { ok: true, .. }) | None => Late::Done,
    };
    match of(&shared)?.acknowledge(&token, late).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ AckError::Unknown) => Err(Problem::not_found(error.to_string())),
        Err(error @ AckError::Over) => Err(Problem::new(Kind::Gone, error.to_string())),
        Err(AckError::Failed(error)) => Err(error.into()),
    }
}

/// Whether receipts may go to this webhook, for the caller; they do from now on.
pub(crate) async fn take_receipts(shared: &Shared, caller: &Caller, id: &str) -> Result<(), Problem> {
    let endpoint = match own(shared, caller, id).await {
        Err(problem) if problem.kind == Kind::NotFound => return Err(refuse("replyto", problem.detail)),
        found => found?,
    };
    if !endpoint.receipts {
        of(shared)?.take_receipts(id).await?;
    }
    Ok(())
}

async fn view(shared: &Shared, endpoint: Endpoint) -> Result<Json<WebhookView>, Problem> {
    let endpoints = [endpoint];
    let standings = of(shared)?.standings(&endpoints).await?;
    let [endpoint] = endpoints;
    Ok(Json(WebhookView::of(endpoint, &standings.into_iter().next().unwrap_or_default())))
}

/// What a receiver verifies with is secret, or it isn't.
fn key_name(shown: &str) -> &'static str {
    if shown.starts_with("whpk_") { "public_key" } else { "secret" }
}

/// What is shown once is kept by nobody on the way.
fn secret_answer(value: Value) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(value))
}

fn named(id: Id) -> Result<String, Problem> {
    id.map(|Path(id)| id).map_err(|rejection| Problem::invalid(rejection.body_text()))
}

impl From<::webhooks::Error> for Problem {
    fn from(error: ::webhooks::Error) -> Self {
        use ::webhooks::Error;
        match error {
            Error::Invalid(detail) => Self::invalid(detail),
            Error::NoEndpoint(_) => Self::not_found(error.to_string()),
            Error::TooMany(detail) => Self::new(Kind::TooMany, detail),
            Error::Unavailable(reason) => {
                tracing::warn!(reason, "webhooks are away");
                Self::unavailable("webhooks are away", std::time::Duration::from_secs(1))
            }
            Error::Stored(reason) => {
                tracing::error!(reason, "what is stored of webhooks can't be read");
                Self::new(Kind::Internal, "see the log")
            }
        }
    }
}
