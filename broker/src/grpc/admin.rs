//! Groups, their dead letters and who is connected, as an operator sees and moves them.

use bus::{DeadLetter, LostRange, OnDead, Which};
use prost::Message as _;
use proto::turnpike::bus::v1 as wire;
use wire::{
    connection::Subscription,
    dead_letter::Failure,
    group::{Mode, OnDead as WireOnDead},
    group_status,
};

use super::{
    event,
    group::{start, started},
    moment::{of_millis, timestamp, wire_duration},
    page::Page,
};
use crate::{
    access::Caller,
    connections, duration,
    groups::{self, MOST_LETTERS, letter_key, letter_place},
    problem::Problem,
    query::refuse,
    shared::Shared,
    view::GroupView,
};

/// Dead letters of a page: the most, and those unless the request says; and the bytes at which it is cut.
const LETTERS: (usize, usize) = (100, 10);
const LETTERS_BYTES: usize = 2 << 20;

pub(super) async fn list_groups(
    shared: &Shared,
    caller: &Caller,
    request: wire::ListGroupsRequest,
) -> Result<wire::ListGroupsResponse, Problem> {
    let page = Page::asked(request.page_size, request.page_token)?;
    let queue = (!request.queue.is_empty()).then_some(request.queue);
    let groups = groups::all(shared, caller, queue.as_deref()).await?;
    let (groups, next_page_token) = page.of(groups, |group| group.name.as_str());
    Ok(wire::ListGroupsResponse { groups: groups.into_iter().map(group).collect(), next_page_token })
}

pub(super) async fn get_group(
    shared: &Shared,
    caller: &Caller,
    request: wire::GetGroupRequest,
) -> Result<wire::GroupStatus, Problem> {
    groups::find(shared, caller, &request.name).await.map(group)
}

pub(super) async fn list_dead_letters(
    shared: &Shared,
    caller: &Caller,
    request: wire::ListDeadLettersRequest,
) -> Result<wire::ListDeadLettersResponse, Problem> {
    let page = Page::of_at_most(LETTERS, request.page_size, request.page_token)?;
    let after = match page.after() {
        "" => (0, 0),
        token => letter_place(token).ok_or_else(|| refuse("page_token", "must be what a page gave"))?,
    };
    let letters = groups::letters(shared, caller, &request.group, after, page.size()).await?;
    let (count, mut bytes) = (letters.len(), 0);
    let mut dead_letters: Vec<wire::DeadLetter> = Vec::new();
    for told in letters.into_iter().take(page.size()).map(letter) {
        bytes += told.encoded_len();
        if bytes > LETTERS_BYTES && !dead_letters.is_empty() {
            break;
        }
        dead_letters.push(told);
    }
    let last = dead_letters.last().filter(|_| dead_letters.len() < count);
    let next_page_token = last.map_or_else(String::new, |last| letter_key(last.partition, last.position));
    Ok(wire::ListDeadLettersResponse { dead_letters, next_page_token })
}

pub(super) async fn redrive(
    shared: &Shared,
    caller: &Caller,
    request: wire::RedriveRequest,
) -> Result<wire::RedriveResponse, Problem> {
    let redriven = groups::give_again(shared, caller, &request.group, which(request.letters)?).await?;
    Ok(wire::RedriveResponse { redriven })
}

pub(super) async fn discard(
    shared: &Shared,
    caller: &Caller,
    request: wire::DiscardRequest,
) -> Result<wire::DiscardResponse, Problem> {
    let discarded = groups::forget(shared, caller, &request.group, which(request.letters)?).await?;
    Ok(wire::DiscardResponse { discarded })
}

pub(super) async fn seek(
    shared: &Shared,
    caller: &Caller,
    request: wire::SeekRequest,
) -> Result<wire::SeekResponse, Problem> {
    let to = start("to", request.to)?;
    let sought = groups::place(shared, caller, &request.group, to, request.dry_run).await?;
    Ok(wire::SeekResponse { again: sought.again, skipped: sought.skipped, leases: sought.leases })
}

pub(super) async fn list_connections(
    shared: &Shared,
    caller: &Caller,
    request: wire::ListConnectionsRequest,
) -> Result<wire::ListConnectionsResponse, Problem> {
    let page = Page::asked(request.page_size, request.page_token)?;
    let connections = connections::all(shared, caller).await?;
    let (connections, next_page_token) = page.of(connections, |connection| connection.id.as_str());
    let connections = connections.into_iter().map(connection).collect();
    Ok(wire::ListConnectionsResponse { connections, next_page_token })
}

fn group(view: GroupView) -> wire::GroupStatus {
    let mode = match view.mode.as_str() {
        "keyed" => Mode::Keyed,
        "exclusive" => Mode::Exclusive,
        _ => Mode::Parallel,
    };
    let on_dead = match view.on_dead {
        OnDead::Continue => WireOnDead::Continue,
        OnDead::Block => WireOnDead::Block,
    };
    // `none` is no duration.
    let time = |text: &str| duration::parse(text).map(wire_duration);
    let range =
        |range: LostRange| group_status::LostRange { partition: range.partition, from: range.from, to: range.to };
    wire::GroupStatus {
        name: view.name,
        queue: view.queue,
        filter: view.filter,
        mode: mode.into(),
        lag: view.lag,
        in_flight: view.in_flight,
        retrying: view.retrying,
        parked: view.parked,
        dead: view.dead,
        blocked_by_key: view.blocked_by_key,
        oldest: view.oldest.map(timestamp),
        next: view.next,
        members: u32::try_from(view.members).unwrap_or(u32::MAX),
        start: Some(started(view.start)),
        lease: time(&view.lease),
        max_processing: time(&view.max_processing),
        on_dead: on_dead.into(),
        blocked: view.blocked,
        lost: view.lost,
        lost_ranges: view.lost_ranges.into_iter().map(range).collect(),
        abandoned: view.abandoned.map(timestamp),
    }
}

fn letter(letter: DeadLetter) -> wire::DeadLetter {
    let failure = |failed: bus::Failed| Failure { at: Some(of_millis(failed.at)), error: failed.error };
    wire::DeadLetter {
        partition: letter.partition,
        position: letter.position,
        reason: letter.reason,
        error: letter.error,
        attempts: letter.attempts,
        history: letter.history.into_iter().map(failure).collect(),
        died: Some(timestamp(letter.died)),
        redrive: letter.redrive,
        event: Some(event::told(&letter.envelope, None)),
    }
}

fn connection(connection: bus::Connection) -> wire::Connection {
    let transport = match connection.transport {
        bus::Transport::WebSocket => "web_socket",
        bus::Transport::Sse => "sse",
        bus::Transport::LongPoll => "long_poll",
        bus::Transport::Grpc => "grpc",
        bus::Transport::Member => "member",
    };
    let subscription = |subscription: bus::Subscription| Subscription {
        name: subscription.name,
        filter: subscription.filter,
        group: subscription.group.unwrap_or_default(),
    };
    wire::Connection {
        id: connection.id,
        node: connection.node,
        transport: transport.to_owned(),
        subject: connection.subject.unwrap_or_default(),
        address: connection.address.unwrap_or_default(),
        since: Some(timestamp(connection.since)),
        subscriptions: connection.subscriptions.into_iter().map(subscription).collect(),
    }
}

fn which(letters: Option<wire::Letters>) -> Result<Which, Problem> {
    let letters = letters.unwrap_or_default();
    match (letters.all, letters.these.len()) {
        (true, 0) => Ok(Which::All),
        (false, 1..=MOST_LETTERS) => {
            Ok(Which::These(letters.these.into_iter().map(|at| (at.partition, at.position)).collect()))
        }
        _ => Err(refuse("letters", format!("say all, or name 1 to {MOST_LETTERS} letters"))),
    }
}
