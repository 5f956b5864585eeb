//! `POST /jobs/claim`: tasks for a worker in any language: `{"kinds": ["send_invoice"], "max": 1, "wait": "25s", "worker": "w1"}`.
//! Each comes with a token, by which it is settled at `/deliveries/{token}`.

use axum::{Json, body::Body, extract::State};
use http::HeaderMap;
use jobs::{Ask, Handed, Outcome, Outlet, Priority};
use serde::{Deserialize, Serialize};

use super::beside::beside;
use crate::{
    access::Caller, body, follow::Connected, metrics::Transport, problem::Problem, query::Parameters, shared::Shared,
    work::wait,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    kinds: Vec<String>,
    #[serde(default = "one")]
    max: usize,
    wait: Option<String>,
    /// What its attempts are shown under; another name each time unless said.
    worker: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Tasks {
    tasks: Vec<Handed>,
}

fn one() -> usize {
    1
}

pub(super) async fn claim(
    State(shared): State<Shared>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Tasks>, Problem> {
    parameters.done("nothing is")?;
    let Asked { kinds, max, wait, worker } = body::command(&headers, body).await?;
    for kind in &kinds {
        for priority in Priority::ALL {
            caller.may_consume(&jobs::group_of(kind, priority))?;
        }
    }
    let wait = self::wait(wait, shared.settings.longest_wait)?;
    let worker = worker.unwrap_or_else(|| format!("w_{}", uuid::Uuid::new_v4().simple()));
    let (outlet, ask) = (Outlet::new(shared.jobs()?), Ask { kinds, worker, max });
    let connected =
        (!wait.is_zero()).then(|| Connected::join(&shared, &caller, Transport::LongPoll, None)).transpose()?;
    let claiming = {
        let outlet = outlet.clone();
        |over| async move {
            let tasks = outlet.claim(&ask, over).await;
            // Off the roster before the caller knows.
            drop(connected);
            tasks
        }
    };
    let give_back = |tasks: Vec<Handed>| async move {
        for task in tasks {
            // What can't be given back comes again when its lease ends.
            _ = outlet.end(&task.ticket, Outcome::GivenBack).await;
        }
    };
    let tasks = beside(&shared, wait, claiming, give_back).await?;
    Transport::LongPoll.delivered(tasks.len());
    Ok(Json(Tasks { tasks }))
}
