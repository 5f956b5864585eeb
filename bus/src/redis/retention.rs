//! What is done once a minute, by every node: events that are older than their queue keeps, or more than it keeps, are
//! trimmed, a piece at a time, but nothing that a group has not settled, unless the queue drops its oldest. Nodes don't
//! agree on who does it: the second finds nothing to do.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::FromRedisValue as _;
use tokio::time::MissedTickBehavior;

use super::{
    group, log,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Error, Overflow, Queue,
    broken::{Promise, is_broken},
};

static TRIM: LazyLock<Script> = LazyLock::new(|| Script::on_floor(include_str!("lua/trim.lua"), WhenFull::Runs));

const PAUSE: Duration = Duration::from_secs(60);
/// Positions that one script trims at most.
const PIECE: u64 = 4096;
/// A group that is away for less has its hold, however short its queue's time is.
const AWAY: Duration = Duration::from_secs(60);

/// Passes once a minute, until the bus is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once.
    ticks.reset();
    while shared.closed.run_until_cancelled(ticks.tick()).await.is_some() {
        let pass = async {
            pass(&shared).await?;
            group::housekeep(&shared).await
        };
        if let Some(Err(error)) = shared.closed.run_until_cancelled(pass).await {
            tracing::warn!(%error, "the bus was not kept in order");
        }
    }
}

/// Trims every queue.
pub(super) async fn pass(shared: &Shared) -> Result<(), Error> {
    for queue in shared.queues() {
        for partition in 0..queue.partitions {
            while trim(shared, &queue, partition).await? {}
        }
    }
    Ok(())
}

/// Trims a piece of a partition; whether more may be left.
async fn trim(shared: &Shared, queue: &Queue, partition: u32) -> Result<bool, Error> {
    let place = shared.place(&queue.name, partition);
    let view = shared.look(&queue.name, partition).await?.view;
    let max_age = i64::try_from(queue.max_age.as_millis()).unwrap_or(i64::MAX);
    let stop = log::recorded_at(shared, &place, &view, view.now.saturating_sub(max_age)).await?;
    let args = [stop.to_string(), PIECE.to_string(), view.lineage.to_string(), limits(shared, queue, partition)];
    let ran = shared.run(&TRIM, &queue.name, partition, &[], &args.map(String::into_bytes)).await?;
    Ok(u64::from_redis_value(ran.value).map_err(|_| unexpected())? > 0)
}

/// What a partition may hold, as `lua/floor.lua` reads it.
pub(super) fn limits(shared: &Shared, queue: &Queue, partition: u32) -> String {
    let number = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    let (length, bytes) = (number(queue.max_len), number(queue.max_bytes));
    let drop = u8::from(queue.overflow == Overflow::DropOldest);
    let mut groups = shared.keys().group(&queue.name, partition, "");
    if is_broken(Promise::GroupsHoldTheLog) {
        groups.insert_str(0, "no");
    }
    format!("{length}:{bytes}:{drop}:{}:{groups}", queue.max_age.max(AWAY).as_millis())
}
