//! `POST /groups/{group}/claim`: `{"max": 10, "wait": "25s"}`.

use std::{sync::Arc, time::Duration};

use axum::{Json, body::Body, extract::State};
use bus::{Claim, Leased};
use events::Envelope;
use http::HeaderMap;
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use super::{BYTES, EVENTS, bounded, lease, member, token::Held};
use crate::{
    access::Caller,
    body, duration,
    metrics::Transport,
    path::Named,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

/// What a member asks for; an empty body will do.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    max: Option<u32>,
    bytes: Option<u32>,
    wait: Option<String>,
    /// Without a name it is another member each time.
    member: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Deliveries {
    deliveries: Vec<Delivery>,
    /// It stopped short of what is there.
    more: bool,
}

#[derive(Serialize)]
struct Delivery {
    token: String,
    attempt: u32,
    redrive: u32,
    #[serde(with = "time::serde::rfc3339")]
    first_delivered: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    lease_until: OffsetDateTime,
    partition: u32,
    #[serde(serialize_with = "as_it_is")]
    event: Arc<Envelope>,
}

pub(super) async fn claim(
    State(shared): State<Shared>,
    caller: Caller,
    Named(group): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Deliveries>, Problem> {
    caller.may_consume(&group)?;
    parameters.done("nothing is")?;
    let asked: Asked = body::optional(&headers, body).await?;
    let number = |field, given: Option<u32>, bounds| match given {
        // Said, it is not nothing.
        Some(0) => Err(refuse(field, "must be 1 or more")),
        given => bounded(field, given.unwrap_or(0), bounds),
    };
    let claim = Claim {
        max: number("max", asked.max, EVENTS)?,
        bytes: number("bytes", asked.bytes, BYTES)?,
        member: asked.member.map_or_else(|| Ok(uuid::Uuid::new_v4().to_string()), member)?,
        group: group.clone(),
    };
    let wait = wait(asked.wait, shared.settings.longest_wait)?;
    let claimed = lease(&shared, &caller, claim, wait, Transport::LongPoll).await?;
    let deliveries = claimed.leased.into_iter().map(|leased| told(&group, leased)).collect();
    Ok(Json(Deliveries { deliveries, more: claimed.more }))
}

/// How long a claim waits for something: not at all unless it says.
pub(crate) fn wait(given: Option<String>, longest: Duration) -> Result<Duration, Problem> {
    let Some(text) = given else { return Ok(Duration::ZERO) };
    let wait = duration::parse(&text).filter(|wait| *wait <= longest);
    wait.ok_or_else(|| {
        refuse("wait", format!("must be a duration such as 500ms or 25s, at most {}", duration::text(longest)))
    })
}

fn told(group: &str, leased: Leased) -> Delivery {
    let Leased { token, envelope, partition, attempt, redrive, first_delivered, until, .. } = leased;
    let token = Held::Event { group: group.to_owned(), token }.to_string();
    Delivery { token, attempt, redrive, first_delivered, lease_until: until, partition, event: envelope }
}

fn as_it_is<S: Serializer>(event: &Arc<Envelope>, serializer: S) -> Result<S::Ok, S::Error> {
    event.as_ref().serialize(serializer)
}
