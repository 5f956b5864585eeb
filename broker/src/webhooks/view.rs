//! Webhooks and attempts as they are told. The names of the fields are promised.

use ::webhooks::{Attempt, Endpoint, Signature, Standing, State};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::duration;

#[derive(Debug, Serialize)]
pub(super) struct WebhookView {
    pub id: String,
    owner: Option<String>,
    url: String,
    filter: String,
    description: String,
    ordered: bool,
    ack_within: Option<String>,
    remove_after: Option<u32>,
    signature: Signature,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    former_until: Option<OffsetDateTime>,
    receipts: bool,
    /// `enabled`, `disabled`.
    state: &'static str,
    /// Why it is disabled, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    disabled_at: Option<OffsetDateTime>,
    failures: u32,
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_success: Option<OffsetDateTime>,
    lag: u64,
    in_flight: u64,
    retrying: u64,
    parked: u64,
    dead: u64,
    #[serde(with = "time::serde::rfc3339::option")]
    oldest: Option<OffsetDateTime>,
    lost: u64,
    lost_ranges: Vec<LostView>,
    #[serde(with = "time::serde::rfc3339::option")]
    abandoned: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
}

/// Positions of a queue that were dropped before they were delivered.
#[derive(Debug, Serialize)]
pub(super) struct LostView {
    queue: String,
    partition: u32,
    from: u64,
    to: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct AttemptView {
    /// The event's id.
    event: String,
    source: String,
    address: String,
    /// 1 for the first at its event; 0: a trial.
    attempt: u32,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    took_ms: f64,
    class: &'static str,
    status: Option<u16>,
    error: Option<String>,
    /// The first 4 KiB, as text.
    answer: String,
}

impl WebhookView {
    pub fn of(endpoint: Endpoint, standing: &Standing) -> Self {
        let (state, reason, disabled_at) = match &endpoint.state {
            State::Enabled => ("enabled", None, None),
            State::Disabled(disabled) => ("disabled", Some(disabled.reason.as_str()), Some(disabled.at)),
        };
        Self {
            id: endpoint.id,
            owner: endpoint.owner,
            url: endpoint.url,
            filter: endpoint.filter,
            description: endpoint.description,
            ordered: endpoint.ordered,
            ack_within: endpoint.ack_within.map(duration::text),
            remove_after: endpoint.remove_after,
            signature: endpoint.signature,
            public_key: endpoint.public_key,
            former_until: endpoint.former_until,
            receipts: endpoint.receipts,
            state,
            reason,
            disabled_at,
            failures: endpoint.failures,
            failing_since: endpoint.failing_since,
            last_success: endpoint.last_success,
            lag: standing.lag,
            in_flight: standing.in_flight,
            retrying: standing.retrying,
            parked: standing.parked,
            dead: standing.dead,
            oldest: standing.oldest,
            lost: standing.lost,
            lost_ranges: lost(standing),
            abandoned: standing.abandoned,
            created: endpoint.created,
            updated: endpoint.updated,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            event: attempt.event,
            source: attempt.source,
            address: attempt.address,
            attempt: attempt.number,
            at: attempt.at,
            took_ms: attempt.took.as_secs_f64() * 1000.0,
            class: attempt.class.as_str(),
            status: attempt.status,
            error: attempt.error,
            answer: String::from_utf8_lossy(&attempt.answer).into_owned(),
        }
    }
}

pub(super) fn lost(standing: &Standing) -> Vec<LostView> {
    let view = |(queue, range): &(events::Name, bus::LostRange)| LostView {
        queue: queue.to_string(),
        partition: range.partition,
        from: range.from,
        to: range.to,
    };
    standing.lost_ranges.iter().map(view).collect()
}

pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}
