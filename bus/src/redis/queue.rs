//! Queues: their settings, their lineages, what is told of them.

use std::sync::{Arc, LazyLock};

use events::Name;
use futures_util::future::try_join_all;
use redis::FromRedisValue as _;

use super::{
    latest,
    place::Ran,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{Error, Lineages, PartitionStatus, Queue, QueueStatus};

static PARTITION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/partition.lua"), WhenFull::Runs));

/// What publishers must know of a queue, and its partitions too: whoever publishes by another one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) partitions: u32,
    /// Each key's last event is known.
    pub(super) latest: bool,
}

impl Shape {
    pub(super) fn of(queue: &Queue) -> Self {
        Self { partitions: queue.partitions, latest: queue.latest }
    }

    /// As the scripts write it.
    pub(super) fn text(self) -> String {
        format!("{}{}", self.partitions, if self.latest { ",latest" } else { "" })
    }
}

/// Makes a queue, or changes its settings; its partitions only while it has no events.
pub(super) async fn declare(shared: &Shared, queue: Queue) -> Result<(), Error> {
    queue.validate()?;
    let known = shared.ask_queue(&queue.name).await?;
    let (name, shape) = (&queue.name, Shape::of(&queue));
    let count = known.as_ref().map_or(0, |known| known.partitions).max(queue.partitions);
    let (told, unbuilt) = tell(shared, name, shape, count).await?;
    if told.partitions != shape.partitions {
        return Err(Error::Conflict(format!(
            "partitions: {name} has events and {} partitions, which can't change any more",
            told.partitions
        )));
    }
    if told != shape {
        return Err(Error::Conflict(format!(
            "latest: {name} has a partition of more than {} events, too many to look through",
            latest::BUILT_FROM
        )));
    }
    shared.put_queue(&queue).await?;
    for partition in unbuilt {
        latest::build(shared, &shared.place(name, partition)).await?;
    }
    Ok(())
}

/// The partitions were told another shape than is registered, for longer than a declaration takes: whoever declared the
/// queue died on the way. What is registered holds, unless there are events by what was told.
pub(super) async fn agree(shared: &Shared, name: &Name) -> Result<(), Error> {
    let Some(queue) = shared.ask_queue(name).await? else { return Ok(()) };
    let shape = Shape::of(&queue);
    let (told, _) = tell(shared, name, shape, queue.partitions).await?;
    if told == shape {
        return Ok(());
    }
    let Shape { partitions, latest } = told;
    shared.put_queue(&Queue { partitions, latest, ..(*queue).clone() }).await
}

/// Tells the first `count` partitions of a queue its shape. Where one of them can't take it, that one's is told to the
/// others again. The shape they have now, and the partitions whose last events are still to be looked up.
async fn tell(shared: &Shared, name: &Name, shape: Shape, count: u32) -> Result<(Shape, Vec<u32>), Error> {
    let tell = async |partition, shape: Shape| {
        let args = [shape.partitions.to_string(), u8::from(shape.latest).to_string(), latest::BUILT_FROM.to_string()];
        let ran = shared.run(&PARTITION, name, partition, &[], &args.map(String::into_bytes)).await?;
        let (partitions, latest, unbuilt) = <(u32, u8, u8)>::from_redis_value(ran.value).map_err(|_| unexpected())?;
        Ok::<_, Error>((Shape { partitions, latest: latest == 1 }, unbuilt == 1))
    };
    let mut all = Vec::new();
    for partition in 0..count {
        let (has, unbuilt) = tell(partition, shape).await?;
        if has != shape {
            for told in 0..partition {
                tell(told, has).await?;
            }
            return Ok((has, Vec::new()));
        }
        all.extend(unbuilt.then_some(partition));
    }
    Ok((shape, all))
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
    let (cut_short, bytes, scheduled) = <(String, u64, u64)>::from_redis_value(value).map_err(|_| unexpected())?;
    Ok(PartitionStatus {
        floor: view.floor,
        next: view.next,
        bytes,
        lineage: view.lineage,
        scheduled,
        dedupe_cut_short: !cut_short.is_empty(),
    })
}
