//! Jobs by the calendar: `GET /jobs/schedules[/{name}]`, `PUT` and `DELETE /jobs/schedules/{name}`, `POST
//! /jobs/schedules/{name}/{enable,disable}`.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use jobs::{Error, Jobs, Missed, Priority, Schedule, ScheduleStatus};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::BYTES;
use crate::{access::Caller, body, page::Page, path::Named, problem::Problem, query::Parameters, shared::Shared};

/// A schedule as it is put: what is left out is the default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    cron: String,
    kind: String,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    missed: Missed,
}

pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<ScheduleStatus>>, Problem> {
    caller.may_read_jobs(None)?;
    let (after, limit) = (parameters.text("after")?, parameters.limit()?.min(499));
    parameters.done("after, limit")?;
    let schedules = shared.jobs()?.schedules(after.as_deref().unwrap_or_default(), limit + 1).await?;
    Ok(Json(Page::cut("schedules", schedules, |schedule| schedule.name.clone(), limit)))
}

pub(super) async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<ScheduleStatus>, Problem> {
    parameters.done("nothing is")?;
    let found = shared.jobs()?.schedule_of(&name).await;
    // Who may not see them all isn't told which there are.
    caller.may_read_jobs(owner(&found))?;
    Ok(Json(found?))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may_write_jobs()?;
    parameters.done("nothing is")?;
    let Form { cron, kind, payload, priority, missed } = body::command_within(&headers, body, BYTES).await?;
    let mut schedule = Schedule::untyped(&name, &cron, &kind, payload).priority(priority).missed(missed);
    if let Some(owner) = &caller.subject {
        schedule = schedule.owner(owner);
    }
    set(&shared, &caller, &name, &schedule).await
}

/// Creates a schedule, or changes the one of this name; 201 or 200.
pub(super) async fn set(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    schedule: &Schedule,
) -> Result<Response, Problem> {
    let jobs = shared.jobs()?;
    let known = jobs.schedule_of(name).await;
    let is_new = matches!(known, Err(Error::NoSchedule(_)));
    if !is_new {
        caller.may_change_jobs(owner(&known))?;
        known?;
    }
    jobs.schedule(schedule).await?;
    tracing::info!(subject = caller.subject, schedule = name, is_new, "schedule set");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/jobs/schedules/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
    let set = jobs.schedule_of(name).await?;
    Ok((status, [(header::LOCATION, location)], Json(set)).into_response())
}

pub(super) async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<StatusCode, Problem> {
    parameters.done("nothing is")?;
    let jobs = changed(&shared, &caller, &name).await?;
    jobs.unschedule(&name).await?;
    tracing::info!(subject = caller.subject, schedule = name, "schedule removed");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn enable(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<ScheduleStatus>, Problem> {
    parameters.done("nothing is")?;
    switch(&shared, &caller, &name, true).await
}

pub(super) async fn disable(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<ScheduleStatus>, Problem> {
    parameters.done("nothing is")?;
    switch(&shared, &caller, &name, false).await
}

async fn switch(shared: &Shared, caller: &Caller, name: &str, on: bool) -> Result<Json<ScheduleStatus>, Problem> {
    let jobs = changed(shared, caller, name).await?;
    jobs.enable(name, on).await?;
    tracing::info!(subject = caller.subject, schedule = name, on, "schedule switched");
    Ok(Json(jobs.schedule_of(name).await?))
}

/// Where the schedule is kept, if the caller may change it.
async fn changed<'a>(shared: &'a Shared, caller: &Caller, name: &str) -> Result<&'a Jobs, Problem> {
    let jobs = shared.jobs()?;
    let known = jobs.schedule_of(name).await;
    caller.may_change_jobs(owner(&known))?;
    known?;
    Ok(jobs)
}

fn owner(found: &Result<ScheduleStatus, Error>) -> Option<&str> {
    found.as_ref().ok()?.owner.as_deref()
}
