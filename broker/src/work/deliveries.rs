//! `POST /deliveries/{token}/{ack,nack,release,defer,extend,dead}`: one delivery, of an event or of a task.
//!
//! A task's delivery is settled through the jobs, which keep what became of it: `ack` with its `result`, `extend` with its
//! `progress`; `extend` answers whether the task was stopped or cancelled.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bus::Settlement;
use http::{HeaderMap, StatusCode};
use jobs::{Outcome, Outlet, Ticket};
use serde_json::{Map, Value, json};

use super::{
    lease::of_jobs,
    settlement::{BYTES, Said, lease_lost, read_delay},
    token::Held,
};
use crate::{
    access::Caller,
    body,
    path::Named,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

type Settled = Result<Response, Problem>;

const VERBS: [&str; 6] = ["ack", "nack", "release", "defer", "extend", "dead"];

pub(super) async fn settle(
    State(shared): State<Shared>,
    caller: Caller,
    Named((token, verb)): Named<(String, String)>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Settled {
    if !VERBS.contains(&verb.as_str()) {
        return Err(Problem::not_found(format!("a delivery is settled by one of {}", VERBS.join(", "))));
    }
    let held: Held = token.parse().map_err(|error| refuse("token", error))?;
    caller.may_consume(held.group())?;
    parameters.done("nothing is")?;
    let said: Map<String, Value> = body::optional_within(&headers, body, BYTES).await?;
    let said = Said::read(said, &verb)?;
    match held {
        Held::Event { group, token } => {
            of_jobs(&group)?;
            let settlement = Settlement { token, verb: said.verb()? };
            let settled = shared.bus.settle(&group, vec![settlement]).await?;
            match settled.first() {
                Some(Ok(())) => Ok(StatusCode::NO_CONTENT.into_response()),
                _ => Err(lease_lost()),
            }
        }
        Held::Task(ticket) => task(&Outlet::new(shared.jobs()?), &ticket, said).await,
    }
}

async fn task(outlet: &Outlet, ticket: &Ticket, said: Said) -> Settled {
    let outcome = match said {
        Said::Ack { result } => Outcome::Completed { result: result.unwrap_or_default() },
        Said::Nack { delay, reason, retryable: true } => Outcome::Retry { reason, delay: read_delay(delay)? },
        Said::Nack { reason, .. } | Said::Dead { reason } => Outcome::Failed { reason },
        Said::Release {} => Outcome::GivenBack,
        Said::Defer { .. } => {
            return Err(Problem::invalid("a task is not deferred: nack it with a delay, or release it"));
        }
        Said::Extend { progress, note } => {
            let progress = match (progress, note.as_deref()) {
                (None, None) => None,
                (None, Some(_)) => return Err(refuse("note", "goes with progress")),
                (Some(part), note) => Some((part, note.unwrap_or_default())),
            };
            let alive = outlet.alive(ticket, progress).await?;
            return Ok(Json(json!({ "ending": alive.ending })).into_response());
        }
    };
    outlet.end(ticket, outcome).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
