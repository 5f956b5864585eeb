//! Where an event stands with its groups: GetStatus, GetEvent.

use std::collections::HashMap;

use bus::{Progress, Standing};
use proto::turnpike::bus::v1 as wire;
use wire::{event_status::Delivered, standing::State};

use super::{
    event,
    moment::{duration, timestamp},
};
use crate::{
    access::Caller,
    confirm::LONGEST,
    cursor::Cursor,
    problem::Problem,
    query::refuse,
    shared::Shared,
    status::{self, Named, Status, Waiting},
};

pub(super) async fn event(
    shared: &Shared,
    caller: &Caller,
    request: wire::GetEventRequest,
) -> Result<wire::Event, Problem> {
    let Named::Place(place) = named(shared, caller, &request.cursor, request.own_id).await? else {
        return Err(Problem::not_found("the event waits for its time; its status says when that is"));
    };
    let envelope = status::find(shared, caller, &place).await?;
    Ok(event::told(&envelope, Some(shared.seal.text(&Cursor::of(&place)))))
}

pub(super) async fn status(
    shared: &Shared,
    caller: &Caller,
    request: wire::GetStatusRequest,
) -> Result<wire::EventStatus, Problem> {
    let wait = request.wait.map(|wait| duration("wait", wait, LONGEST)).transpose()?;
    let place = match named(shared, caller, &request.cursor, request.own_id).await? {
        Named::Place(place) => place,
        Named::Waiting(Waiting { id, queue, due, .. }) => {
            let delivered = Delivered::Scheduled.into();
            return Ok(wire::EventStatus {
                id,
                queue,
                delivered,
                due: Some(timestamp(due)),
                ..wire::EventStatus::default()
            });
        }
    };
    let Status { id, cursor, queue, event, partition, position, recordedtime, delivery, groups, .. } =
        status::ask(shared, caller, &place, wait).await?;
    let delivered = match delivery {
        Progress::Nobody => Delivered::Nobody,
        Progress::Pending => Delivered::Pending,
        Progress::Delivered => Delivered::Delivered,
        Progress::Failed => Delivered::Failed,
    };
    Ok(wire::EventStatus {
        id,
        cursor,
        queue,
        event,
        partition,
        position,
        recorded_time: recordedtime.map(timestamp),
        delivered: delivered.into(),
        groups: groups.into_iter().map(|(group, stands)| (group, told(stands))).collect::<HashMap<_, _>>(),
        due: None,
    })
}

/// A standing as it is told; None: nobody has declared the group yet.
pub(super) fn told(standing: Option<Standing>) -> wire::Standing {
    let of = |state: State| wire::Standing { state: state.into(), ..wire::Standing::default() };
    match standing {
        None => of(State::Unspecified),
        Some(Standing::Pending) => of(State::Pending),
        Some(Standing::Leased { attempt, until }) => {
            wire::Standing { attempt, until: Some(timestamp(until)), ..of(State::Leased) }
        }
        Some(Standing::Retrying { attempt, at }) => {
            wire::Standing { attempt, until: Some(timestamp(at)), ..of(State::Retrying) }
        }
        Some(Standing::Parked { behind }) => wire::Standing { behind, ..of(State::Parked) },
        Some(Standing::Acked) => of(State::Acked),
        Some(Standing::Dead { reason, at }) => wire::Standing { reason, until: Some(timestamp(at)), ..of(State::Dead) },
        Some(Standing::Expired) => of(State::Expired),
        Some(Standing::Lost) => of(State::Lost),
        Some(Standing::Filtered) => of(State::Filtered),
        Some(Standing::NotApplicable) => of(State::NotApplicable),
        Some(Standing::Unknown) => of(State::Unknown),
    }
}

/// The event that is asked for, by its cursor or its own id.
async fn named(
    shared: &Shared,
    caller: &Caller,
    cursor: &str,
    own_id: Option<wire::EventId>,
) -> Result<Named, Problem> {
    match own_id {
        None => status::place(shared, cursor).map(Named::Place).map_err(of_cursor),
        Some(_) if !cursor.is_empty() => Err(refuse("own_id", "comes instead of a cursor")),
        Some(wire::EventId { queue, id, source }) => {
            status::own(shared, caller, &queue, Some(source).filter(|source| !source.is_empty()), id).await
        }
    }
}

/// What a path calls `id` is a cursor here.
fn of_cursor(problem: Problem) -> Problem {
    match problem.detail.strip_prefix("id: ") {
        Some(reason) => refuse("cursor", reason),
        None => problem,
    }
}
