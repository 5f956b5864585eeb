//! Jobs over HTTP: `POST /jobs`, `GET /jobs[/{id}]`, `DELETE /jobs/{id}`, `POST /jobs/{id}/{stop,resume}`, `/jobs/schedules`, and
//! `POST /jobs/claim` for workers in any language, which settle at `/deliveries/{token}`. They are kept in the broker's database
//! by the crate `jobs`, which says what they promise; here they are read, allowed and answered.

mod beside;
mod claim;
mod form;
mod listing;
mod schedules;
mod source;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use jobs::{Created, Error, JobDetail, Jobs, Target};
use serde_json::{Value, json};
use uuid::Uuid;

pub use source::JobSource;

use self::form::{Asked, Form};
use crate::{
    access::Caller,
    body,
    path::Named,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
};

/// The most bytes of a job with the payloads of its tasks.
const BYTES: usize = 1 << 20;
/// How long a caller shall wait that found the database away.
const AWAY: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/jobs", get(listing::list).post(create))
        .route("/jobs/claim", post(claim::claim))
        .route("/jobs/schedules", get(schedules::list))
        .route("/jobs/schedules/{name}", get(schedules::one).put(schedules::put).delete(schedules::remove))
        .route("/jobs/schedules/{name}/enable", post(schedules::enable))
        .route("/jobs/schedules/{name}/disable", post(schedules::disable))
        .route("/jobs/{id}", get(one).delete(cancel))
        .route("/jobs/{id}/stop", post(stop))
        .route("/jobs/{id}/resume", post(resume))
}

/// What is done to a job that is there.
#[derive(Clone, Copy, Debug)]
enum Change {
    Cancel,
    Stop,
    Resume,
}

impl Shared {
    /// Where jobs are kept.
    pub(crate) fn jobs(&self) -> Result<&Jobs, Problem> {
        let none = || Problem::new(Kind::Conflict, "this broker has no database to keep jobs in");
        self.jobs.as_ref().ok_or_else(none)
    }
}

async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may_write_jobs()?;
    parameters.done("nothing is")?;
    let form: Form = body::command_within(&headers, body, BYTES).await?;
    let trace = telemetry::current().or_else(|| telemetry::extract(&headers));
    match form.read(caller.subject.as_deref(), trace)? {
        Asked::Job(job) => {
            let Created { id, existing } = shared.jobs()?.create(*job).await?;
            tracing::info!(subject = caller.subject, job = %id, existing, "job created");
            let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
            let location = [(header::LOCATION, format!("/jobs/{id}"))];
            Ok((status, location, Json(json!({ "id": id, "existing": existing }))).into_response())
        }
        Asked::Schedule(name, schedule) => schedules::set(&shared, &caller, &name, &schedule).await,
    }
}

async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<JobDetail>, Problem> {
    let id = job(&id)?;
    parameters.done("nothing is")?;
    let found = shared.jobs()?.get(id).await;
    // Who may not see them all isn't told which there are.
    let owner = found.as_ref().ok().and_then(|detail| detail.job.owner.as_deref());
    caller.may_read_jobs(owner)?;
    Ok(Json(found?))
}

async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    change(&shared, &caller, &id, parameters, Change::Cancel).await
}

async fn stop(
    State(shared): State<Shared>,
    caller: Caller,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    change(&shared, &caller, &id, parameters, Change::Stop).await
}

async fn resume(
    State(shared): State<Shared>,
    caller: Caller,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    change(&shared, &caller, &id, parameters, Change::Resume).await
}

/// Changes the job that the path names, or the task of it that `?task=` does, and logs who did; its state then.
async fn change(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    mut parameters: Parameters,
    change: Change,
) -> Result<Json<Value>, Problem> {
    let target = Target { job: job(id)?, task: parameters.text("task")? };
    parameters.done("task")?;
    let (jobs, asked) = (shared.jobs()?, target.clone());
    let owner = jobs.owner(target.job).await;
    // Who may not see them all isn't told which there are.
    caller.may_change_jobs(owner.as_ref().ok().and_then(Option::as_deref))?;
    owner?;
    let state = match change {
        Change::Cancel => jobs.cancel(asked).await,
        Change::Stop => jobs.stop(asked).await,
        Change::Resume => jobs.resume(asked).await,
    }?;
    tracing::info!(subject = caller.subject, job = %target.job, task = target.task, ?change, %state, "job changed");
    Ok(Json(json!({ "id": target.job, "state": state })))
}

fn job(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| refuse("id", "is not a job's"))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            // Jobs call it so in a program.
            Error::Invalid(detail) => {
                Self::invalid(detail.replace("input: ", "payload: ").replace(".input:", ".payload:"))
            }
            error @ (Error::NoJob(_) | Error::NoTask(..) | Error::NoSchedule(_)) => Self::not_found(error.to_string()),
            error @ (Error::Ended(_) | Error::NotStopped(_)) => Self::new(Kind::Conflict, error.to_string()),
            error @ Error::LeaseLost => Self::new(Kind::LeaseLost, error.to_string()),
            Error::Unavailable(reason) => {
                tracing::warn!(reason, "jobs are away");
                Self::unavailable("jobs are away", AWAY)
            }
            Error::Stored(reason) => {
                tracing::error!(reason, "what is stored of jobs can't be read");
                Self::new(Kind::Internal, "see the log")
            }
        }
    }
}
