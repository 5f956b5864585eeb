//! Queues: their settings, their lineages, what is told of them.

use std::sync::{Arc, LazyLock};

use events::Name;
use futures_util::future::try_join_all;
use redis::FromRedisValue as _;

use super::{
    place::Ran,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{Error, Lineages, PartitionStatus, Queue, QueueStatus};

static PARTITION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/partition.lua"), WhenFull::Runs));

/// Makes a queue, or changes its settings; its partitions only while it has no events.
pub(super) async fn declare(shared: &Shared, queue: Queue) -> Result<(), Error> {
    queue.validate()?;
    let known = shared.ask_queue(&queue.name).await?.map_or(0, |known| known.partitions);
    match tell(shared, &queue, known.max(queue.partitions)).await? {
        None => shared.put_queue(&queue).await,
        Some(has) => Err(Error::Conflict(format!(
            "partitions: {} has events and {has} partitions, which can't change any more",
            queue.name
        ))),
    }
}

/// The partitions were told another number than is registered, for longer than a declaration takes: whoever declared the
/// queue died on the way. What is registered holds, unless there are events by what was told.
pub(super) async fn agree(shared: &Shared, name: &Name) -> Result<(), Error> {
    let Some(queue) = shared.ask_queue(name).await? else { return Ok(()) };
    match tell(shared, &queue, queue.partitions).await? {
        None => Ok(()),
        Some(has) => shared.put_queue(&Queue { partitions: has, ..(*queue).clone() }).await,
    }
}

/// Tells the first `count` partitions of a queue how many it has. Where one of them has events, so that their number
/// can't change, it is told to the others again; and here.
async fn tell(shared: &Shared, queue: &Queue, count: u32) -> Result<Option<u32>, Error> {
    let tell = async |partition, number: u32| {
        let number = number.to_string().into_bytes();
        let ran = shared.run(&PARTITION, &queue.name, partition, &[], &[number]).await?;
        u32::from_redis_value(ran.value).map_err(|_| unexpected())
    };
    for partition in 0..count {
        let has = tell(partition, queue.partitions).await?;
        if has != queue.partitions {
            for told in 0..partition {
                tell(told, has).await?;
            }
            return Ok(Some(has));
        }
    }
    Ok(None)
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
        let partitions = try_join_all(looking).await?.into_iter().map(status).collect::<Result<_, _>>()?;
        statuses.push(QueueStatus { settings: (*queue).clone(), partitions });
    }
    Ok(statuses)
}

fn status(Ran { view, value }: Ran) -> Result<PartitionStatus, Error> {
    let (cut_short, bytes) = <(String, u64)>::from_redis_value(value).map_err(|_| unexpected())?;
    Ok(PartitionStatus {
        floor: view.floor,
        next: view.next,
        bytes,
        lineage: view.lineage,
        dedupe_cut_short: !cut_short.is_empty(),
    })
}
