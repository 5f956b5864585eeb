//! Queues: their settings, their lineages, what is told of them.

use std::sync::{Arc, LazyLock};

use events::Name;
use futures_util::future::try_join_all;
use redis::{FromRedisValue as _, Value};

use super::{
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{Error, Lineages, PartitionStatus, Queue, QueueStatus};

/// The most partitions of a queue.
const PARTITIONS: u32 = 256;

static PARTITION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/partition.lua"), WhenFull::Runs));

/// Makes a queue, or changes its settings; its partitions only while it has no events.
pub(super) async fn declare(shared: &Shared, queue: Queue) -> Result<(), Error> {
    if !(1..=PARTITIONS).contains(&queue.partitions) {
        return Err(Error::Invalid(format!("partitions: {} is not within 1 to {PARTITIONS}", queue.partitions)));
    }
    let known = shared.ask_queue(&queue.name).await?.map_or(0, |known| known.partitions);
    let mut told = 0;
    for partition in 0..known.max(queue.partitions) {
        let count = queue.partitions.to_string().into_bytes();
        let ran = shared.run(&PARTITION, &queue.name, partition, &[], &[count]).await?;
        let has = u32::from_redis_value(ran.value).map_err(|_| unexpected())?;
        if has != queue.partitions {
            return take_back(shared, &queue, told, has).await;
        }
        told = partition + 1;
    }
    shared.put_queue(&queue).await
}

/// A partition has events, so that their number can't change: those that were told another one are told the old one.
async fn take_back(shared: &Shared, queue: &Queue, told: u32, has: u32) -> Result<(), Error> {
    for partition in 0..told {
        shared.run(&PARTITION, &queue.name, partition, &[], &[has.to_string().into_bytes()]).await?;
    }
    Err(Error::Conflict(format!(
        "partitions: {} has events and {has} partitions, which can't change any more",
        queue.name
    )))
}

pub(super) async fn lineages(shared: &Shared, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error> {
    match shared.find_queue(queue).await? {
        Some(queue) if partition < queue.partitions => Ok(shared.look(&queue.name, partition).await?.view.lineages),
        _ => Ok(Arc::default()),
    }
}

pub(super) async fn statuses(shared: &Shared) -> Result<Vec<QueueStatus>, Error> {
    shared.refresh().await?;
    let mut statuses = Vec::new();
    for queue in shared.queues() {
        let looking = (0..queue.partitions).map(|partition| shared.look(&queue.name, partition));
        let partitions = try_join_all(looking).await?.into_iter().map(|ran| PartitionStatus {
            floor: ran.view.floor,
            next: ran.view.next,
            lineage: ran.view.lineage,
            dedupe_cut_short: ran.value != Value::Nil,
        });
        let partitions = partitions.collect();
        statuses.push(QueueStatus { name: queue.name.clone(), max_age: queue.max_age, partitions });
    }
    Ok(statuses)
}
