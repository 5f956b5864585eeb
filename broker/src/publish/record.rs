//! Recording events as their publisher: who it is and whether it may, stamped and checked here, wherever an event comes
//! from.

use std::collections::BTreeMap;

use bus::{Bus, Outcome, Place, Progress, Receipts, Recorded, Standing};
use events::{Envelope, Name, ReplyTo};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use telemetry::TraceContext;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::form::problem_of;
use crate::{
    access::Caller,
    confirm::{self, Level, Wanted},
    cursor::Cursor,
    problem::{Kind, Problem},
    query::refuse,
    seal::Seal,
    shared::Shared,
    webhooks,
};

/// What a URI's path may not hold as it is (RFC 3986).
const SUBJECT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What became of an event: serialized, what its publisher reads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Receipt {
    pub id: String,
    /// Where it was recorded. None for a duplicate so old that nobody knows any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// When it will be recorded; None where it is.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub due: Option<OffsetDateTime>,
    /// The level that was reached.
    pub confirm: Level,
    pub requested: String,
    /// The level reached is less than the one asked for of the bus.
    pub degraded: bool,
    /// It had been published before; the cursor is the first one's.
    #[serde(skip_serializing_if = "is_false")]
    pub duplicate: bool,
    /// For `delivered`: where it stands with each group that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeMap<String, Option<Standing>>>,
    /// Why the level asked for isn't reached, where less wouldn't do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Receipt {
    /// Whether what was asked for is so; else it may become so, and the status tells.
    pub fn is_reached(&self) -> bool {
        self.reason.is_none()
    }
}

/// The URI of whoever publishes under this subject: `customers/1` is `/clients/customers/1`, a service is its own name.
pub(crate) fn source(caller: &Caller) -> Result<String, Problem> {
    let Some(subject) = &caller.subject else {
        return Err(Problem::new(Kind::Unauthenticated, "publishing needs to know who publishes"));
    };
    let encoded = utf8_percent_encode(subject, SUBJECT);
    Ok(if subject.starts_with('/') { encoded.to_string() } else { format!("/clients/{encoded}") })
}

/// Publishes as the caller, if it may, and waits as it wants; an outcome each. What a batch holds that is refused before
/// anything is recorded refuses the batch.
pub(crate) async fn record(
    shared: &Shared,
    caller: &Caller,
    events: Vec<Envelope>,
    wanted: &Wanted,
    trace: Option<TraceContext>,
) -> Result<Vec<Result<Receipt, Problem>>, Problem> {
    let source = source(caller)?;
    let several = events.len() > 1;
    for event in &events {
        if let Some(Ok(ReplyTo::Webhook(id))) = event.replyto.as_deref().map(str::parse) {
            webhooks::take_receipts(shared, caller, &id).await?;
        }
    }
    let stamped = events.into_iter().enumerate().map(|(at, event)| {
        let stamped = shared.overload.publish(event.priority);
        let stamped = stamped.and_then(|()| stamp(event, caller, &source, trace.as_ref()));
        stamped.map_err(|problem| if several { problem_of(at, problem) } else { problem })
    });
    let events = stamped.collect::<Result<Vec<Envelope>, Problem>>()?;
    if wanted.level == Level::Delivered {
        if several {
            return Err(refuse("confirm", "delivered is for one event at a time; ask for the status of each"));
        }
        if let Some(event) = events.first() {
            wanted.check_own_group(&shared.bus, event).await?;
        }
    }
    let _waiter = if wanted.waits() { Some(confirm::waiter(&shared.waiters)?) } else { None };
    let labels = labels(&events);
    let outcomes = match &shared.journal {
        Some(journal) => journal.publish(events, wanted.recording()).await?,
        None => shared.bus.publish_with(events, wanted.recording()).await?,
    };
    let about = About { bus: &shared.bus, seal: &shared.seal, draining: shared.shutdown.draining() };
    confirmed(about, labels, outcomes, wanted).await
}

/// Records the events as they are, and waits as it is wanted; an outcome each.
pub(super) async fn directly(
    bus: &Bus,
    events: Vec<Envelope>,
    wanted: &Wanted,
) -> Result<Vec<Result<Receipt, Problem>>, Problem> {
    let labels = labels(&events);
    let outcomes = bus.publish_with(events, wanted.recording()).await?;
    let about = About { bus, seal: &Seal::default(), draining: &CancellationToken::new() };
    confirmed(about, labels, outcomes, wanted).await
}

fn labels(events: &[Envelope]) -> Vec<(String, Name)> {
    events.iter().map(|event| (event.id.clone(), event.queue.clone())).collect()
}

/// What telling of an event needs.
#[derive(Clone, Copy)]
struct About<'a> {
    bus: &'a Bus,
    seal: &'a Seal,
    draining: &'a CancellationToken,
}

async fn confirmed(
    about: About<'_>,
    labels: Vec<(String, Name)>,
    outcomes: Vec<Outcome>,
    wanted: &Wanted,
) -> Result<Vec<Result<Receipt, Problem>>, Problem> {
    let mut receipts = Vec::with_capacity(outcomes.len());
    for ((id, queue), outcome) in labels.into_iter().zip(outcomes) {
        let receipt = match outcome {
            Ok(recorded) => Ok(receipt(about, wanted, Event { id, queue, recorded }).await),
            Err(refused) => Err(refused.into()),
        };
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// Says who published the event, and in which trace.
fn stamp(
    mut event: Envelope,
    caller: &Caller,
    source: &str,
    trace: Option<&TraceContext>,
) -> Result<Envelope, Problem> {
    caller.may_publish(&event)?;
    if let Some(to) = &event.replyto {
        // Else a receipt would be a way to write where its publisher may not.
        match to.parse().map_err(|error| refuse("replyto", error))? {
            ReplyTo::Queue(queue) => Receipts::outcomes().try_for_each(|outcome| caller.may_write(&queue, &outcome))?,
            // Its own, as was seen to before.
            ReplyTo::Webhook(_) => {}
        }
    }
    event.source = source.to_owned();
    event.owner.clone_from(&caller.subject);
    // The trace that the event began in, if its publisher knows it; what is no trace is nobody's fault.
    if event.traceparent.as_deref().and_then(TraceContext::parse).is_none() {
        event.traceparent = trace.map(ToString::to_string);
        event.tracestate = trace.and_then(TraceContext::state).map(str::to_owned);
    }
    Ok(event)
}

struct Event {
    id: String,
    queue: Name,
    recorded: Recorded,
}

async fn receipt(About { bus, seal, draining }: About<'_>, wanted: &Wanted, event: Event) -> Receipt {
    let Event { id, queue, recorded } = event;
    let place = Place::of(&queue, &recorded);
    let Recorded { duplicate, confirmed, due, .. } = recorded;
    let asked = wanted.recording().confirm;
    let degraded = !confirmed.reaches(asked);
    let mut receipt = Receipt {
        id,
        cursor: place.as_ref().map(|place| seal.text(&Cursor::of(place))),
        due,
        confirm: Level::Recorded(confirmed),
        requested: wanted.requested.clone(),
        degraded,
        duplicate,
        groups: None,
        reason: None,
    };
    if due.is_some() {
        receipt.reason = Some("scheduled");
        return receipt;
    }
    if wanted.level != Level::Delivered {
        receipt.reason = (degraded && !wanted.allow_degraded).then_some("timeout");
        return receipt;
    }
    if wanted.respond_async {
        receipt.reason = Some("not_waited_for");
        return receipt;
    }
    let Some(place) = place else {
        receipt.reason = Some("unknown");
        return receipt;
    };
    // One that has given up won't acknowledge while the publisher waits.
    let waiting = bus.wait_delivered(&place, &wanted.groups, wanted.timeout);
    match confirm::unless_draining(bus, draining, &place, &wanted.groups, waiting).await {
        Ok(delivered) => {
            match delivered.progress {
                Progress::Delivered => receipt.confirm = Level::Delivered,
                _ => receipt.reason = Some(delivered.reason()),
            }
            receipt.groups = Some(delivered.groups);
        }
        Err(error) => {
            tracing::debug!(%error, "a waiting publisher can't look");
            receipt.reason = Some("timeout");
        }
    }
    receipt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_uri_of_whoever_publishes() {
        let of = |subject: &str| {
            let principal = principal::Principal { subject: subject.to_owned(), ..Default::default() };
            source(&Caller::from(principal)).unwrap()
        };
        assert_eq!(of("customers/0192"), "/clients/customers/0192");
        assert_eq!(of("/services/order"), "/services/order");
        assert_eq!(of("partners/Acme & \u{e4}"), "/clients/partners/Acme%20&%20%C3%A4");
        assert_eq!(source(&Caller::default()).unwrap_err().kind, Kind::Unauthenticated);
    }
}
