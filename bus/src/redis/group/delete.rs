//! A group goes. A mark stays in its place for a day, so that no node that still knows it puts it back; each node that
//! finds the mark forgets what it knows, and erases what it may have written meanwhile.

use std::sync::Arc;

use super::super::shared::Shared;
use crate::{Error, Group};

pub(in crate::redis) async fn delete(shared: &Arc<Shared>, name: &str) -> Result<(), Error> {
    let Some(group) = shared.find_group(name).await? else { return Ok(()) };
    shared.mark_deleted(name).await?;
    erase(shared, &group).await?;
    tracing::info!(group = name, "group deleted");
    Ok(())
}

/// Erases what a group that is deleted had in Redis and in this process.
pub(in crate::redis) async fn erase(shared: &Shared, group: &Group) -> Result<(), Error> {
    shared.teams.dismiss(&group.name);
    let queue = &group.filter.queue;
    let partitions = shared.find_queue(queue).await?.map_or(0, |queue| queue.partitions);
    for partition in 0..partitions {
        let groups = shared.keys().partition(queue, partition).groups;
        shared.server.ask::<u64>(redis::cmd("SREM").arg(groups).arg(&group.name)).await?;
        let of = shared.keys().group_keys(queue, partition, &group.name);
        for key in [of.state, of.dead, of.died, of.order, of.turn] {
            shared.server.ask::<u64>(redis::cmd("UNLINK").arg(key)).await?;
        }
    }
    shared.wake_settled(queue);
    Ok(())
}
