//! Groups as an operator sees and moves them: `GET /groups`, `GET /groups/{group}`, its dead letters, and `POST
//! /groups/{group}/{redrive,discard,seek}`. What changes something is logged with who did it.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    routing::{get, post},
};
use bus::{Connection, Sought, Start, Which};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    access::Caller,
    body,
    page::Page,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
    view::{GroupView, LetterView},
};

/// The most dead letters that a command names.
const MOST_LETTERS: usize = 1000;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{group}", get(one))
        .route("/groups/{group}/dead-letters", get(dead_letters))
        .route("/groups/{group}/redrive", post(redrive))
        .route("/groups/{group}/discard", post(discard))
        .route("/groups/{group}/seek", post(seek))
}

type Name = Result<Path<String>, PathRejection>;

/// Which dead letters: all, or these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    letters: Vec<At>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    partition: u32,
    position: u64,
}

/// Where to: one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    to: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    time: Option<OffsetDateTime>,
    position: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<GroupView>>, Problem> {
    caller.may_look()?;
    let (after, limit, queue) = (parameters.text("after")?, parameters.limit()?, parameters.text("queue")?);
    parameters.done("queue, after, limit")?;
    let mut groups = shared.bus.groups().await?;
    groups.retain(|group| queue.as_ref().is_none_or(|queue| group.filter.queue.as_str() == queue));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let members = members(&shared).await?;
    let count = |name: &str| members.get(name).copied().unwrap_or(0);
    let views = groups.into_iter().map(|group| GroupView::new(group.clone(), count(&group.name)));
    Ok(Json(Page::of("groups", views, |view| view.name.as_str(), after.as_deref(), limit)))
}

async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
) -> Result<Json<GroupView>, Problem> {
    caller.may_look()?;
    let name = group(name)?;
    parameters.done("nothing is")?;
    let found = shared.bus.groups().await?.into_iter().find(|group| group.name == name);
    let found = found.ok_or_else(|| Problem::not_found(format!("no group {name:?}")))?;
    let members = members(&shared).await?.get(&name).copied().unwrap_or(0);
    Ok(Json(GroupView::new(found, members)))
}

async fn dead_letters(
    State(shared): State<Shared>,
    caller: Caller,
    name: Name,
    mut parameters: Parameters,
) -> Result<Json<Page<LetterView>>, Problem> {
    // A letter holds the event: seeing it takes more than looking at counts.
    caller.may_operate()?;
    let name = group(name)?;
    let after = match parameters.text("after")? {
        Some(text) => letter_place(&text).ok_or_else(|| refuse("after", "must be what a page gave as next"))?,
        None => (0, 0),
    };
    let limit = parameters.limit()?;
    parameters.done("after, limit")?;
    let mut letters = shared.bus.dead_letters(&name, after, limit).await?;
    let next = match letters.last() {
        Some(last) if letters.len() == limit => {
            shared.bus.dead_letters(&name, (last.partition, last.position), 1).await?
        }
        _ => Vec::new(),
    };
    letters.extend(next);
    let letters = letters.into_iter().map(LetterView::from).collect();
    Ok(Json(Page::cut("dead_letters", letters, |letter| format!("{}:{}", letter.partition, letter.position), limit)))
}

async fn redrive(
    State(shared): State<Shared>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    let (name, which) = (group(name)?, chosen(body::command(&headers, body).await?)?);
    parameters.done("nothing is")?;
    let redriven = shared.bus.redrive(&name, which.clone()).await?;
    tracing::info!(subject = caller.subject, group = name, ?which, redriven, "dead letters redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

async fn discard(
    State(shared): State<Shared>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    let (name, which) = (group(name)?, chosen(body::command(&headers, body).await?)?);
    parameters.done("nothing is")?;
    let discarded = shared.bus.discard(&name, which.clone()).await?;
    tracing::info!(subject = caller.subject, group = name, ?which, discarded, "dead letters discarded");
    Ok(Json(json!({ "discarded": discarded })))
}

async fn seek(
    State(shared): State<Shared>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    let name = group(name)?;
    parameters.done("nothing is")?;
    let target: Target = body::command(&headers, body).await?;
    let (start, dry_run) = (start(&target)?, target.dry_run);
    let Sought { again, skipped, leases } = shared.bus.seek(&name, start, dry_run).await?;
    tracing::info!(subject = caller.subject, group = name, ?start, dry_run, again, skipped, leases, "group moved");
    Ok(Json(json!({ "again": again, "skipped": skipped, "leases": leases, "dry_run": dry_run })))
}

fn group(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name).map_err(|rejection| Problem::invalid(rejection.body_text()))
}

/// Members by their group.
async fn members(shared: &Shared) -> Result<BTreeMap<String, usize>, Problem> {
    Ok(count_members(shared.bus.connections().await?))
}

/// How many members each group has among these connections.
pub fn count_members(connections: Vec<Connection>) -> BTreeMap<String, usize> {
    let mut members = BTreeMap::new();
    for connection in connections {
        for group in connection.subscriptions.into_iter().filter_map(|subscription| subscription.group) {
            *members.entry(group).or_default() += 1;
        }
    }
    members
}

fn letter_place(text: &str) -> Option<(u32, u64)> {
    let (partition, position) = text.split_once(':')?;
    let position: i64 = position.parse().ok()?;
    Some((partition.parse().ok()?, u64::try_from(position).ok()?))
}

fn chosen(chosen: Chosen) -> Result<Which, Problem> {
    match (chosen.all, chosen.letters.len()) {
        (true, 0) => Ok(Which::All),
        (false, 1..=MOST_LETTERS) => {
            Ok(Which::These(chosen.letters.into_iter().map(|at| (at.partition, at.position)).collect()))
        }
        _ => Err(refuse("letters", format!("say {{\"all\": true}} or name 1 to {MOST_LETTERS} letters"))),
    }
}

fn start(target: &Target) -> Result<Start, Problem> {
    match (target.to.as_deref(), target.time, target.position) {
        (Some("earliest"), None, None) => Ok(Start::Earliest),
        (Some("latest"), None, None) => Ok(Start::Latest),
        (Some(_), None, None) => Err(refuse("to", "must be earliest or latest; else say time or position")),
        (None, Some(time), None) => Ok(Start::Time(time)),
        // No log is that long.
        (None, None, Some(position)) if i64::try_from(position).is_ok() => Ok(Start::Position(position)),
        (None, None, Some(_)) => Err(refuse("position", "is beyond every log")),
        _ => Err(refuse("to", "say one of to, time and position")),
    }
}
