//! Groups as an operator sees and moves them: `GET /groups`, `GET /groups/{group}`, its dead letters, and `POST
//! /groups/{group}/{redrive,discard,seek}`. What changes something is logged with who did it.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    routing::{get, post},
};
use bus::{Connection, DeadLetter, GroupStatus, Sought, Start, Which};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    access::Caller,
    body,
    page::Page,
    path::Named,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
    view::{GroupView, LetterView},
};

/// The most dead letters that a command names.
pub(crate) const MOST_LETTERS: usize = 1000;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{group}", get(one))
        .route("/groups/{group}/dead-letters", get(dead_letters))
        .route("/groups/{group}/redrive", post(redrive))
        .route("/groups/{group}/discard", post(discard))
        .route("/groups/{group}/seek", post(seek))
}

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
    let (after, limit, queue) = (parameters.text("after")?, parameters.limit()?, parameters.text("queue")?);
    parameters.done("queue, after, limit")?;
    let views = all(&shared, &caller, queue.as_deref()).await?.into_iter();
    Ok(Json(Page::of("groups", views, |view| view.name.as_str(), after.as_deref(), limit)))
}

async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<GroupView>, Problem> {
    parameters.done("nothing is")?;
    find(&shared, &caller, &name).await.map(Json)
}

async fn dead_letters(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    mut parameters: Parameters,
) -> Result<Json<Page<LetterView>>, Problem> {
    let after = match parameters.text("after")? {
        Some(text) => letter_place(&text).ok_or_else(|| refuse("after", "must be what a page gave as next"))?,
        None => (0, 0),
    };
    let limit = parameters.limit()?;
    parameters.done("after, limit")?;
    let letters = letters(&shared, &caller, &name, after, limit).await?;
    let letters = letters.into_iter().map(LetterView::from).collect();
    Ok(Json(Page::cut("dead_letters", letters, |letter| letter_key(letter.partition, letter.position), limit)))
}

async fn redrive(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    let which = chosen(body::command(&headers, body).await?)?;
    parameters.done("nothing is")?;
    let redriven = give_again(&shared, &caller, &name, which).await?;
    Ok(Json(json!({ "redriven": redriven })))
}

async fn discard(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    let which = chosen(body::command(&headers, body).await?)?;
    parameters.done("nothing is")?;
    let discarded = forget(&shared, &caller, &name, which).await?;
    Ok(Json(json!({ "discarded": discarded })))
}

async fn seek(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_operate()?;
    parameters.done("nothing is")?;
    let target: Target = body::command(&headers, body).await?;
    let (start, dry_run) = (start(&target)?, target.dry_run);
    let Sought { again, skipped, leases } = place(&shared, &caller, &name, start, dry_run).await?;
    Ok(Json(json!({ "again": again, "skipped": skipped, "leases": leases, "dry_run": dry_run })))
}

/// The groups that there are, or those on a queue, by name.
pub(crate) async fn all(shared: &Shared, caller: &Caller, queue: Option<&str>) -> Result<Vec<GroupView>, Problem> {
    caller.may_look()?;
    let mut groups = shared.bus.groups().await?;
    groups.retain(|group| queue.is_none_or(|queue| group.filter.queue.as_str() == queue));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let members = count_members(shared.bus.connections().await?);
    let view = |group: GroupStatus| {
        let members = members.get(&group.name).copied().unwrap_or(0);
        GroupView::new(group, members)
    };
    Ok(groups.into_iter().map(view).collect())
}

/// The group of this name.
pub(crate) async fn find(shared: &Shared, caller: &Caller, name: &str) -> Result<GroupView, Problem> {
    let found = all(shared, caller, None).await?.into_iter().find(|group| group.name == name);
    found.ok_or_else(|| Problem::not_found(format!("no group {name:?}")))
}

/// Dead letters after a place, and one more than the limit where there are more.
pub(crate) async fn letters(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    after: (u32, u64),
    limit: usize,
) -> Result<Vec<DeadLetter>, Problem> {
    // A letter holds the event: seeing it takes more than looking at counts.
    caller.may_operate()?;
    let mut letters = shared.bus.dead_letters(name, after, limit).await?;
    if let Some(last) = letters.last()
        && letters.len() == limit
    {
        letters.extend(shared.bus.dead_letters(name, (last.partition, last.position), 1).await?);
    }
    Ok(letters)
}

/// Redrives dead letters, and logs who did.
pub(crate) async fn give_again(shared: &Shared, caller: &Caller, name: &str, which: Which) -> Result<u64, Problem> {
    caller.may_operate()?;
    let redriven = shared.bus.redrive(name, which.clone()).await?;
    tracing::info!(subject = caller.subject, group = name, ?which, redriven, "dead letters redriven");
    Ok(redriven)
}

/// Discards dead letters, and logs who did.
pub(crate) async fn forget(shared: &Shared, caller: &Caller, name: &str, which: Which) -> Result<u64, Problem> {
    caller.may_operate()?;
    let discarded = shared.bus.discard(name, which.clone()).await?;
    tracing::info!(subject = caller.subject, group = name, ?which, discarded, "dead letters discarded");
    Ok(discarded)
}

/// Moves a group, and logs who did; with `dry_run` it only says what would happen.
pub(crate) async fn place(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    start: Start,
    dry_run: bool,
) -> Result<Sought, Problem> {
    caller.may_operate()?;
    let sought = shared.bus.seek(name, start, dry_run).await?;
    let Sought { again, skipped, leases } = sought;
    tracing::info!(subject = caller.subject, group = name, ?start, dry_run, again, skipped, leases, "group moved");
    Ok(sought)
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

/// How a page of dead letters names a place; [`letter_place`] reads it.
pub(crate) fn letter_key(partition: u32, position: u64) -> String {
    format!("{partition}:{position}")
}

pub(crate) fn letter_place(text: &str) -> Option<(u32, u64)> {
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
