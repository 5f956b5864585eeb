//! Events that wait for their time. Every node watches the clock: a partition tells with every answer when its next event
//! is due, and whoever gets there first records it; for the others there is nothing left to do. Queues in which events
//! wait are in a set; all their partitions are looked at once a second besides.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use events::{Envelope, Name};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use redis::{FromRedisValue as _, Value};
use tokio::sync::Notify;

use super::{
    place::Place,
    publisher::digest,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Confirm, Error, Queue, Recorded, Scheduled, Turn,
    clock::moment,
    metrics,
    schedule::{PAGE, PIECE, PIECE_BYTES},
};

static DUE: LazyLock<Script> = LazyLock::new(|| Script::recording(include_str!("lua/due.lua"), WhenFull::Runs));
static FIND: LazyLock<Script> = LazyLock::new(|| Script::recording(include_str!("lua/find.lua"), WhenFull::Runs));
static SCHEDULED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/scheduled.lua"), WhenFull::Runs));

/// All partitions in which events may wait are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// The most bytes of a page.
const PAGE_BYTES: usize = 4 << 20;

/// What this node knows of what waits.
#[derive(Default)]
pub(super) struct Schedule {
    /// Queues in which events wait, or waited once.
    queues: Mutex<BTreeSet<Name>>,
    looked: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Schedule {
    /// This node knows of more that waits.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Another node may know of something that is due before all others.
    pub(super) fn look(&self) {
        *self.looked.lock() = None;
        self.changed.notify_one();
    }
}

/// Has every node look at a queue; before the first event waits in it.
pub(super) async fn announce(shared: &Shared, queue: &Name) -> Result<(), Error> {
    if shared.schedule.queues.lock().contains(queue) {
        return Ok(());
    }
    let _: i64 = shared.server.ask(redis::cmd("SADD").arg(shared.keys().scheduled()).arg(queue.as_str())).await?;
    shared.schedule.queues.lock().insert(queue.clone());
    Ok(())
}

/// Watches the clock until the bus is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let wait = match shared.closed.run_until_cancelled(pass(&shared)).await {
            None => return,
            Some(Ok(wait)) => wait,
            // Whoever looks at the partitions tells that the server is away.
            Some(Err(error)) => {
                tracing::debug!(%error, "what is due was not recorded");
                LOOK
            }
        };
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = shared.schedule.changed.notified() => {}
        }
    }
}

/// Records what is due; how long until something else may be.
pub(super) async fn pass(shared: &Shared) -> Result<Duration, Error> {
    let all = shared.schedule.looked.lock().is_none_or(|looked| looked.elapsed() >= LOOK);
    if all {
        *shared.schedule.looked.lock() = Some(Instant::now());
        if let Err(error) = learn(shared).await {
            *shared.schedule.looked.lock() = None;
            return Err(error);
        }
    }
    let queues = shared.schedule.queues.lock().clone();
    let mut places = Vec::new();
    for name in &queues {
        let Some(queue) = shared.find_queue(name).await? else { continue };
        places.extend((0..queue.partitions).map(|partition| (queue.clone(), shared.place(name, partition))));
    }
    let due = places.iter().filter(|(_, place)| all || place.due() <= shared.now_in(place));
    try_join_all(due.map(|(queue, place)| record(shared, queue, place))).await?;
    let wait = places.iter().map(|(_, place)| place.due().saturating_sub(shared.now_in(place))).min();
    let wait = wait.and_then(|wait| u64::try_from(wait.max(1)).ok()).map_or(LOOK, Duration::from_millis);
    Ok(wait.min(LOOK))
}

/// Hears of queues in which events wait; and puts back what a flush took away.
async fn learn(shared: &Shared) -> Result<(), Error> {
    let told: Vec<String> = shared.server.ask(redis::cmd("SMEMBERS").arg(shared.keys().scheduled())).await?;
    let told: BTreeSet<Name> = told.iter().filter_map(|name| Name::new(name).ok()).collect();
    let known = shared.schedule.queues.lock().clone();
    for forgotten in known.difference(&told) {
        let _: i64 =
            shared.server.ask(redis::cmd("SADD").arg(shared.keys().scheduled()).arg(forgotten.as_str())).await?;
    }
    shared.schedule.queues.lock().extend(told);
    Ok(())
}

/// Records what is due in a partition, a piece at a time.
async fn record(shared: &Shared, queue: &Queue, place: &Place) -> Result<(), Error> {
    let args = [
        queue.name.as_str().to_owned(),
        shared.dedupe_events.to_string(),
        queue.dedupe.as_millis().to_string(),
        u8::from(queue.latest).to_string(),
        PIECE.to_string(),
        PIECE_BYTES.to_string(),
    ];
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    loop {
        place.forget_due();
        let ran = shared.run_on(&DUE, place, &[], &args).await?;
        let (recorded, lost, more): (u64, u64, u8) = redis::from_redis_value(ran.value).map_err(|_| unexpected())?;
        metrics::due(&queue.name, recorded);
        metrics::waited_in_vain(&queue.name, lost);
        if lost > 0 {
            tracing::error!(queue = %queue.name, partition = place.partition, lost, "events that waited are gone");
        }
        if more == 0 {
            return Ok(());
        }
    }
}

/// See [`crate::Bus::find`].
pub(super) async fn find(shared: &Shared, queue: &Name, source: &str, id: &str) -> Result<Option<Recorded>, Error> {
    Ok(find_in(shared, queue, source, id, false).await?.into_iter().next())
}

/// See [`crate::Bus::cancel`].
pub(super) async fn cancel(shared: &Shared, queue: &Name, source: &str, id: &str) -> Result<bool, Error> {
    Ok(find_in(shared, queue, source, id, true).await?.iter().any(|found| found.due.is_some()))
}

async fn find_in(shared: &Shared, queue: &Name, source: &str, id: &str, cancel: bool) -> Result<Vec<Recorded>, Error> {
    let Some(queue) = shared.find_queue(queue).await? else { return Ok(Vec::new()) };
    let (digest, reach) = (digest(source, id), queue.dedupe.as_millis().to_string());
    let args: [&[u8]; 3] = [&digest, reach.as_bytes(), if cancel { b"1" } else { b"0" }];
    let finding = (0..queue.partitions).map(|partition| {
        let place = shared.place(&queue.name, partition);
        async move { shared.run_on(&FIND, &place, &[], &args).await }
    });
    let mut all = Vec::new();
    for (partition, ran) in (0..).zip(try_join_all(finding).await?) {
        let (position, due): (u64, i64) = redis::from_redis_value(ran.value).map_err(|_| unexpected())?;
        if position == 0 && due == 0 {
            continue;
        }
        let lineage = ran.view.lineages.of(position).filter(|_| position > 0);
        all.push(Recorded {
            partition,
            lineage: lineage.map_or(ran.view.lineage, |lineage| lineage.id),
            position: Some(position).filter(|position| *position > 0),
            due: Some(due).filter(|due| *due > 0).map(moment),
            duplicate: true,
            confirmed: Confirm::Stored,
        });
    }
    // What waits is the newer one.
    all.sort_by_key(|found| found.due.is_none());
    Ok(all)
}

/// See [`crate::Bus::scheduled`].
pub(super) async fn scheduled(
    shared: &Shared,
    queue: &Name,
    after: Option<Turn>,
    limit: usize,
) -> Result<Vec<Scheduled>, Error> {
    let mut scheduled: Vec<Scheduled> = Vec::new();
    let Some(queue) = shared.find_queue(queue).await? else { return Ok(scheduled) };
    let limit = limit.min(PAGE);
    for partition in after.map_or(0, |after| after.partition)..queue.partitions {
        let left = limit - scheduled.len();
        if left == 0 {
            break;
        }
        let after = after.filter(|after| after.partition == partition).unwrap_or_default();
        let args = [after.due.to_string(), after.arrival.to_string(), left.to_string(), PAGE_BYTES.to_string()];
        let args = args.map(String::into_bytes);
        let ran = shared.run(&SCHEDULED, &queue.name, partition, &[], &args).await?;
        let found: Vec<(i64, u64, Vec<u8>)> = triples(ran.value).ok_or_else(unexpected)?;
        let was_cut = found.len() < left && found.iter().map(|(.., json)| json.len()).sum::<usize>() >= PAGE_BYTES;
        scheduled.extend(found.into_iter().filter_map(|(due, arrival, json)| {
            let envelope: Envelope = serde_json::from_slice(&json).ok()?;
            Some(Scheduled { turn: Turn { partition, due, arrival }, due: moment(due), envelope: envelope.into() })
        }));
        if was_cut {
            break;
        }
    }
    Ok(scheduled)
}

fn triples(value: Value) -> Option<Vec<(i64, u64, Vec<u8>)>> {
    let Value::Array(values) = value else { return None };
    let mut values = values.into_iter();
    let mut triples = Vec::new();
    while let (Some(due), Some(arrival), Some(Value::BulkString(json))) = (values.next(), values.next(), values.next())
    {
        triples.push((i64::from_redis_value(due).ok()?, u64::from_redis_value(arrival).ok()?, json));
    }
    Some(triples)
}
