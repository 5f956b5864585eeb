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
    status::{self, Status},
};

pub(super) async fn event(
    shared: &Shared,
    caller: &Caller,
    request: wire::GetEventRequest,
) -> Result<wire::Event, Problem> {
    let place = status::place(&request.cursor).map_err(of_cursor)?;
    let envelope = status::find(shared, caller, &place).await?;
    Ok(event::told(&envelope, Some(Cursor::of(&place).to_string())))
}

pub(super) async fn status(
    shared: &Shared,
    caller: &Caller,
    request: wire::GetStatusRequest,
) -> Result<wire::EventStatus, Problem> {
    let place = status::place(&request.cursor).map_err(of_cursor)?;
    let wait = request.wait.map(|wait| duration("wait", wait, LONGEST)).transpose()?;
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

/// What a path calls `id` is a cursor here.
fn of_cursor(problem: Problem) -> Problem {
    match problem.detail.strip_prefix("id: ") {
        Some(reason) => refuse("cursor", reason),
        None => problem,
    }
}
