//! Publish and PublishStream: the same recording as over HTTP, of the same events.

use std::collections::HashMap;

use events::{Envelope, Name};
use futures_util::Stream;
use proto::turnpike::bus::v1 as wire;
use tonic::{Status, Streaming};

use super::{
    event,
    moment::{duration, timestamp},
    outward::{Gone, Outward},
    refusal::reconnect,
    standing,
};
use crate::{
    access::Caller,
    confirm::{LONGEST, Level, Wanted},
    departure::{Departure, Why},
    follow::Connected,
    metrics::Transport,
    problem::Problem,
    publish::{self, BATCH, Receipt},
    query::refuse,
    shared::Shared,
    status,
};

/// The most replicas that a level may name.
const MOST_REPLICAS: u32 = 16;

pub(super) async fn publish(
    shared: &Shared,
    caller: &Caller,
    request: wire::PublishRequest,
) -> Result<wire::PublishResponse, Problem> {
    let wanted = wanted(request.confirm.unwrap_or_default())?;
    let outcomes = record(shared, caller, request.events, &wanted).await?;
    match publish::refused_all(&outcomes) {
        Some(problem) => Err(problem),
        None => Ok(answer(outcomes)),
    }
}

/// Records what comes, one request after another, and answers each.
pub(super) fn stream(
    shared: &Shared,
    caller: Caller,
    requests: Streaming<wire::PublishRequest>,
) -> Result<impl Stream<Item = Result<wire::PublishResponse, Status>> + Send + 'static, Problem> {
    publish::source(&caller)?;
    let connected = Connected::join(shared, &caller, Transport::Grpc, None)?;
    let (outward, answers) = Outward::new(shared.settings.stall);
    let (tasks, shared) = (shared.tasks.clone(), shared.clone());
    tasks.spawn(async move {
        if let Ok(Some(status)) = answer_each(&shared, &caller, requests, &outward).await {
            outward.end(status).await;
        }
        drop(connected);
    });
    Ok(answers)
}

/// Until one side ends it; what the server has to say then.
async fn answer_each(
    shared: &Shared,
    caller: &Caller,
    mut requests: Streaming<wire::PublishRequest>,
    outward: &Outward<wire::PublishResponse>,
) -> Result<Option<Status>, Gone> {
    let mut departure = Departure::new(&shared.shutdown, &shared.settings);
    loop {
        let request = tokio::select! {
            biased;
            () = outward.gone() => return Err(Gone),
            why = departure.due() => return Ok(Some(depart(why))),
            request = requests.message() => match request {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            },
        };
        let count = request.events.len();
        let outcomes = match wanted(request.confirm.unwrap_or_default()) {
            Ok(wanted) if wanted.level == Level::Delivered => {
                Err(refuse("confirm", "delivered is for Publish: what follows on the stream would wait"))
            }
            Ok(wanted) => record(shared, caller, request.events, &wanted).await,
            Err(problem) => Err(problem),
        };
        let outcomes = outcomes.unwrap_or_else(|problem| vec![Err(problem); count.max(1)]);
        outward.say(answer(outcomes)).await?;
    }
}

pub(super) async fn cancel(
    shared: &Shared,
    caller: &Caller,
    request: wire::CancelRequest,
) -> Result<wire::CancelResponse, Problem> {
    let queue = Name::new(&request.queue).map_err(|error| refuse("queue", error))?;
    let source = (!request.source.is_empty()).then_some(request.source);
    let cancelled = status::take_back(shared, caller, &queue, source, &request.id).await?;
    Ok(wire::CancelResponse { cancelled })
}

/// What a stream is ended with that must be opened anew.
pub(super) fn depart(why: Why) -> Status {
    let after = Departure::retry_after();
    match why {
        Why::Drain => reconnect("DRAIN", "this node shuts down; reconnect", after),
        Why::Overload => reconnect("OVERLOAD", "this node has too much to bear; reconnect", after),
        Why::Rotated => reconnect("ROTATED", "the stream's time is over; reconnect", after),
    }
}

async fn record(
    shared: &Shared,
    caller: &Caller,
    events: Vec<wire::Event>,
    wanted: &Wanted,
) -> Result<Vec<Result<Receipt, Problem>>, Problem> {
    let source = publish::source(caller)?;
    if !(1..=BATCH).contains(&events.len()) {
        return Err(refuse("events", format!("must be 1 to {BATCH}, not {}", events.len())));
    }
    let events = events.into_iter().enumerate().map(|(at, event)| event::read(at, event, &source));
    let events = events.collect::<Result<Vec<Envelope>, Problem>>()?;
    publish::record(shared, caller, events, wanted, telemetry::current()).await
}

fn wanted(confirm: wire::Confirm) -> Result<Wanted, Problem> {
    let level = match wire::Level::try_from(confirm.level) {
        Ok(wire::Level::Unspecified | wire::Level::Stored) => "stored".to_owned(),
        Ok(wire::Level::Fsynced) => "fsynced".to_owned(),
        Ok(wire::Level::Replicated) if (1..=MOST_REPLICAS).contains(&confirm.replicas) => {
            format!("replicated:{}", confirm.replicas)
        }
        Ok(wire::Level::Replicated) => {
            return Err(refuse("confirm.replicas", format!("must be 1 to {MOST_REPLICAS}")));
        }
        Ok(wire::Level::Delivered) if confirm.groups.is_empty() => "delivered".to_owned(),
        Ok(wire::Level::Delivered) => format!("delivered:{}", confirm.groups.join(",")),
        Err(_) => return Err(refuse("confirm.level", "is not known to this version of the broker")),
    };
    let mut wanted = Wanted::level(&level, confirm.allow_degraded)?;
    if let Some(timeout) = confirm.timeout {
        wanted.timeout = duration("confirm.timeout", timeout, LONGEST)?;
    }
    wanted.own_group = (!confirm.own_group.is_empty()).then_some(confirm.own_group);
    Ok(wanted)
}

fn answer(outcomes: Vec<Result<Receipt, Problem>>) -> wire::PublishResponse {
    let outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(told) => wire::outcome::Outcome::Receipt(receipt(told)),
        Err(problem) => wire::outcome::Outcome::Refusal(problem.into()),
    });
    wire::PublishResponse { outcomes: outcomes.map(|outcome| wire::Outcome { outcome: Some(outcome) }).collect() }
}

fn receipt(receipt: Receipt) -> wire::Receipt {
    let (level, replicas) = match receipt.confirm {
        Level::Recorded(bus::Confirm::Stored) => (wire::Level::Stored, 0),
        Level::Recorded(bus::Confirm::Fsynced) => (wire::Level::Fsynced, 0),
        Level::Recorded(bus::Confirm::Replicated(replicas)) => (wire::Level::Replicated, replicas.into()),
        Level::Delivered => (wire::Level::Delivered, 0),
    };
    let groups = receipt.groups.into_iter().flatten();
    wire::Receipt {
        id: receipt.id,
        cursor: receipt.cursor.unwrap_or_default(),
        level: level.into(),
        replicas,
        degraded: receipt.degraded,
        duplicate: receipt.duplicate,
        reason: receipt.reason.unwrap_or_default().to_owned(),
        groups: groups.map(|(group, stands)| (group, standing::told(stands))).collect::<HashMap<_, _>>(),
        due: receipt.due.map(timestamp),
    }
}
