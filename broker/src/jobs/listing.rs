//! `GET /jobs`: newest first, in pages.

use axum::{Json, extract::State};
use jobs::{JobStatus, Listing, Place, State as JobState};
use time::OffsetDateTime;

use crate::{
    access::Caller,
    page::Page,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

/// The most jobs of a page.
const MOST: usize = 500;

pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<JobStatus>>, Problem> {
    let state = parameters.text("state")?;
    let state = state.map(|text| JobState::parse(&text).ok_or_else(|| refuse("state", "is none that a job has")));
    let after = parameters.text("after")?;
    let after = after.map(|text| place(&text).ok_or_else(|| refuse("after", "must be what a page gave as next")));
    let listing = Listing {
        state: state.transpose()?,
        name: parameters.text("name")?,
        kind: parameters.text("kind")?,
        owner: parameters.text("owner")?,
        from: parameters.time("from")?,
        until: parameters.time("until")?,
        after: after.transpose()?,
    };
    let limit = parameters.limit()?.min(MOST);
    parameters.done("state, name, kind, owner, from, until, after, limit")?;
    // One's own may be listed by anybody.
    caller.may_read_jobs(listing.owner.as_deref())?;
    let listed = shared.jobs()?.list(&listing, limit).await?;
    let next = listed.next.map(|Place { created, id }| format!("{}:{id}", created.unix_timestamp_nanos() / 1000));
    Ok(Json(Page::ending("jobs", listed.jobs, next)))
}

fn place(text: &str) -> Option<Place> {
    let (micros, id) = text.split_once(':')?;
    let nanos = micros.parse::<i64>().ok().map(|micros| i128::from(micros) * 1000)?;
    Some(Place { created: OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?, id: id.parse().ok()? })
}
