//! Queues as an operator sees and sets them.

use std::time::Duration;

use bus::{Overflow, Queue, QueueStatus};
use events::Name;
use proto::turnpike::bus::v1 as wire;

use super::{
    moment::{duration, wire_duration},
    page::Page,
};
use crate::{access::Caller, problem::Problem, query::refuse, queues, shared::Shared};

/// Longer is surely a mistake; the queue's own bounds are narrower.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

pub(super) async fn list(
    shared: &Shared,
    caller: &Caller,
    request: wire::ListQueuesRequest,
) -> Result<wire::ListQueuesResponse, Problem> {
    let page = Page::asked(request.page_size, request.page_token)?;
    let queues = queues::all(shared, caller).await?;
    let (queues, next_page_token) = page.of(queues, |queue| queue.settings.name.as_str());
    Ok(wire::ListQueuesResponse { queues: queues.into_iter().map(told).collect(), next_page_token })
}

pub(super) async fn put(
    shared: &Shared,
    caller: &Caller,
    request: wire::PutQueueRequest,
) -> Result<wire::Queue, Problem> {
    let name = Name::new(&request.name).map_err(|error| refuse("name", error))?;
    let (queue, _) = queues::change(shared, caller, name, |queue| set(queue, &request)).await?;
    Ok(told(queue))
}

fn set(queue: Queue, request: &wire::PutQueueRequest) -> Result<Queue, Problem> {
    let time = |field, given: Option<prost_types::Duration>, had| {
        given.map_or(Ok(had), |given| duration(field, given, LONGEST))
    };
    // 0: no bound.
    let bound = |given: Option<u64>, had| given.map_or(had, |bound| (bound > 0).then_some(bound));
    let overflow = match wire::queue::Overflow::try_from(request.overflow) {
        Ok(wire::queue::Overflow::Unspecified) => queue.overflow,
        Ok(wire::queue::Overflow::Reject) => Overflow::Reject,
        Ok(wire::queue::Overflow::DropOldest) => Overflow::DropOldest,
        Err(_) => return Err(refuse("overflow", "is not known to this version of the broker")),
    };
    Ok(Queue {
        partitions: request.partitions.unwrap_or(queue.partitions),
        max_age: time("max_age", request.max_age, queue.max_age)?,
        max_bytes: bound(request.max_bytes, queue.max_bytes),
        max_len: bound(request.max_len, queue.max_len),
        overflow,
        dedupe: time("dedupe", request.dedupe, queue.dedupe)?,
        latest: request.latest.unwrap_or(queue.latest),
        realtime: request.realtime.unwrap_or(queue.realtime),
        journal: request.journal.unwrap_or(queue.journal),
        name: queue.name,
    })
}

fn told(status: QueueStatus) -> wire::Queue {
    let partitions = status.partitions.iter().map(|partition| wire::queue::Partition {
        floor: partition.floor,
        next: partition.next,
        lineage: partition.lineage,
        dedupe_cut_short: partition.dedupe_cut_short,
        bytes: partition.bytes,
    });
    let states: Vec<_> = partitions.collect();
    let settings = status.settings;
    let overflow = match settings.overflow {
        Overflow::Reject => wire::queue::Overflow::Reject,
        Overflow::DropOldest => wire::queue::Overflow::DropOldest,
    };
    wire::Queue {
        name: settings.name.to_string(),
        partitions: settings.partitions,
        max_age: Some(wire_duration(settings.max_age)),
        max_bytes: settings.max_bytes,
        max_len: settings.max_len,
        overflow: overflow.into(),
        dedupe: Some(wire_duration(settings.dedupe)),
        latest: settings.latest,
        realtime: settings.realtime,
        journal: settings.journal,
        events: states.iter().map(|state| state.next.saturating_sub(state.floor)).sum(),
        bytes: states.iter().map(|state| state.bytes).sum(),
        states,
    }
}
