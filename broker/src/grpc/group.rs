//! A group as its members declare it.

use std::time::Duration;

use bus::{Group, Mode, OnDead, Start};
use proto::turnpike::bus::v1 as wire;

use super::moment::{duration, time, timestamp};
use crate::{access::Caller, problem::Problem, query::refuse, shared::Shared, work::of_jobs};

/// The longest that a lease, and that handling may be said to take.
const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3600);
const LONGEST_PROCESSING: Duration = Duration::from_secs(30 * 86_400);

/// The group, if the caller may declare it.
pub(super) fn declared(caller: &Caller, group: Option<wire::Group>) -> Result<Group, Problem> {
    let group = group.ok_or_else(|| refuse("group", "is required"))?;
    caller.may_consume(&group.name)?;
    of_jobs(&group.name)?;
    let filter: events::Filter = group.filter.parse().map_err(|error| refuse("group.filter", error))?;
    caller.may_read_all(&filter.clone().into())?;
    let mode = match wire::group::Mode::try_from(group.mode) {
        Ok(wire::group::Mode::Unspecified | wire::group::Mode::Parallel) => Mode::Parallel,
        Ok(wire::group::Mode::Keyed) => Mode::Keyed,
        Ok(wire::group::Mode::Exclusive) => Mode::Exclusive,
        Err(_) => return Err(refuse("group.mode", "is not known to this version of the broker")),
    };
    let mut declared = Group::new(&group.name, filter, mode);
    if let Some(at) = group.start {
        declared.start = start("group.start", Some(at))?;
    }
    if let Some(lease) = group.lease {
        declared.lease = duration("group.lease", lease, LONGEST_LEASE)?;
    }
    if let Some(longest) = group.max_processing {
        let longest = duration("group.max_processing", longest, LONGEST_PROCESSING)?;
        declared.max_processing = (!longest.is_zero()).then_some(longest);
    }
    declared.on_dead = match wire::group::OnDead::try_from(group.on_dead) {
        Ok(wire::group::OnDead::Unspecified | wire::group::OnDead::Continue) => OnDead::Continue,
        Ok(wire::group::OnDead::Block) => OnDead::Block,
        Err(_) => return Err(refuse("group.on_dead", "is not known to this version of the broker")),
    };
    declared.validate().map_err(|error| refuse("group", error))?;
    Ok(declared)
}

pub(super) async fn declare(
    shared: &Shared,
    caller: &Caller,
    request: wire::DeclareGroupRequest,
) -> Result<wire::DeclareGroupResponse, Problem> {
    let group = declared(caller, request.group)?;
    tracing::info!(subject = caller.subject, group = group.name, filter = %group.filter, "group declared");
    shared.bus.declare_group(group).await?;
    Ok(wire::DeclareGroupResponse {})
}

/// Where a group begins, or is moved to.
pub(super) fn start(field: &str, start: Option<wire::Start>) -> Result<Start, Problem> {
    match start.and_then(|start| start.at) {
        Some(wire::start::At::Edge(edge)) => match wire::Edge::try_from(edge) {
            Ok(wire::Edge::Earliest) => Ok(Start::Earliest),
            Ok(wire::Edge::Latest) => Ok(Start::Latest),
            _ => Err(refuse(field, "must be EARLIEST or LATEST; else say time or position")),
        },
        Some(wire::start::At::Time(at)) => Ok(Start::Time(time(field, at)?)),
        // No log is that long.
        Some(wire::start::At::Position(position)) if i64::try_from(position).is_ok() => Ok(Start::Position(position)),
        Some(wire::start::At::Position(_)) => Err(refuse(field, "is beyond every log")),
        None => Err(refuse(field, "say one of edge, time and position")),
    }
}

/// Where a group began, as it is told.
pub(super) fn started(start: Start) -> wire::Start {
    let at = match start {
        Start::Earliest => wire::start::At::Edge(wire::Edge::Earliest.into()),
        Start::Latest => wire::start::At::Edge(wire::Edge::Latest.into()),
        Start::Time(at) => wire::start::At::Time(timestamp(at)),
        Start::Position(position) => wire::start::At::Position(position),
    };
    wire::Start { at: Some(at) }
}
