//! `PUT /groups/{group}`: a group as its members want it. Declared again it is the same, or has its settings changed; where it
//! begins counts the first time alone.

use std::time::Duration;

use axum::{Json, body::Body, extract::State};
use bus::{Group, Mode, OnDead, Start};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::of_jobs;
use crate::{
    access::Caller,
    body, duration,
    path::Named,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

/// The longest that handling may be said to take.
const LONGEST_PROCESSING: Duration = Duration::from_secs(30 * 86_400);

/// All of it: what is left out is the default.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declaration {
    filter: String,
    #[serde(default)]
    mode: Way,
    #[serde(default)]
    start: Start,
    /// `30s` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    /// `15m` unless said; `none`: as long as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_processing: Option<String>,
    #[serde(default)]
    on_dead: OnDead,
}

/// As [`Mode`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    #[default]
    Parallel,
    Keyed,
    Exclusive,
}

impl Declaration {
    fn group(self, name: &str) -> Result<Group, Problem> {
        let filter = self.filter.parse().map_err(|error| refuse("filter", error))?;
        let mode = match self.mode {
            Way::Parallel => Mode::Parallel,
            Way::Keyed => Mode::Keyed,
            Way::Exclusive => Mode::Exclusive,
        };
        let mut group = Group::new(name, filter, mode);
        (group.start, group.on_dead) = (self.start, self.on_dead);
        if let Some(text) = self.lease {
            group.lease = duration::parse(&text).ok_or_else(|| refuse("lease", "must be a duration, 1s to 12h"))?;
        }
        match self.max_processing.as_deref() {
            None => {}
            Some("none") => group.max_processing = None,
            Some(text) => {
                let longest = duration::parse(text).filter(|longest| *longest <= LONGEST_PROCESSING);
                let refused = || refuse("max_processing", "must be a duration of at most 30d, or none");
                group.max_processing = Some(longest.ok_or_else(refused)?);
            }
        }
        if let Start::Position(position) = group.start
            && i64::try_from(position).is_err()
        {
            return Err(refuse("start.position", "is beyond every log"));
        }
        group.validate().map_err(|error| Problem::invalid(error.to_string()))?;
        Ok(group)
    }

    fn of(group: &Group) -> Self {
        Self {
            filter: group.filter.to_string(),
            mode: match group.mode {
                Mode::Parallel => Way::Parallel,
                Mode::Keyed => Way::Keyed,
                Mode::Exclusive => Way::Exclusive,
            },
            start: group.start,
            lease: Some(duration::text(group.lease)),
            max_processing: Some(group.max_processing.map_or_else(|| "none".to_owned(), duration::text)),
            on_dead: group.on_dead,
        }
    }
}

pub(super) async fn declare(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Declaration>, Problem> {
    caller.may_consume(&name)?;
    of_jobs(&name)?;
    parameters.done("nothing is")?;
    let declaration: Declaration = body::command(&headers, body).await?;
    let group = declaration.group(&name)?;
    caller.may_read_all(&group.filter.clone().into())?;
    tracing::info!(subject = caller.subject, group = name, filter = %group.filter, "group declared");
    shared.bus.declare_group(group.clone()).await?;
    Ok(Json(Declaration::of(&group)))
}
