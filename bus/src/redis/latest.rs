//! Each key's last event, of queues that keep it: positions by key, in the same slot, which scripts that record keep true.
//! Where they aren't (somebody deleted them, or the queue had events before), they are built of the log, by whoever asks.

use std::sync::{Arc, LazyLock};

use events::Name;
use redis::{FromRedisValue as _, Value};
use uuid::Uuid;

use super::{
    log,
    place::{Place, Ran},
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{Error, Logged, Page, Partition};

static LATEST: LazyLock<Script> = LazyLock::new(|| Script::recording(include_str!("lua/latest.lua"), WhenFull::Runs));
static VIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/view.lua"), WhenFull::Runs));

/// What a key's digest is made in. It is stored.
pub(super) const DIGESTS: Uuid = Uuid::from_u128(0x0d3b_6c1e_7f52_4a8b_b1a6_9c47_5e20_d8f3);
/// Events of a partition that a view is built from when a queue begins to keep one.
pub(super) const BUILT_FROM: u64 = 100_000;
/// The most events of a page.
const PAGE: usize = 1000;
/// How often a page is asked for that can't be told yet.
const ATTEMPTS: usize = 3;

pub(super) fn digest(key: &str) -> [u8; 16] {
    *Uuid::new_v5(&DIGESTS, key.as_bytes()).as_bytes()
}

/// See [`crate::Bus::latest`].
pub(super) async fn one(shared: &Shared, queue: &Name, key: &str) -> Result<Option<Logged>, Error> {
    let count = kept(shared, queue).await?;
    let place = shared.place(queue, Partition::of(key, count).index);
    for _ in 0..ATTEMPTS {
        let (Ran { .. }, positions) = ask(shared, &place, &digest(key), 0, 1).await?;
        let Some(position) = positions.first().copied() else { return Ok(None) };
        let found = log::read(shared, &place, position, 1).await?.entries.into_iter().next();
        // Otherwise it was trimmed meanwhile.
        if let Some(entry) = found.filter(|entry| entry.position == position) {
            return Ok(Some(entry.into()));
        }
    }
    Ok(None)
}

/// See [`crate::Bus::latest_page`].
pub(super) async fn page(
    shared: &Shared,
    queue: &Name,
    partition: u32,
    after: u64,
    limit: usize,
) -> Result<Page, Error> {
    if partition >= kept(shared, queue).await? {
        return Err(Error::Invalid(format!("partition: {queue} has none with the number {partition}")));
    }
    let place = shared.place(queue, partition);
    let (ran, positions) = ask(shared, &place, b"", after, limit.min(PAGE)).await?;
    let entries = log::these(shared, &place, &positions).await?;
    let events = entries.into_iter().map(Logged::from);
    Ok(Page { events: events.collect(), floor: ran.view.floor, next: ran.view.next, lineages: ran.view.lineages })
}

/// How many partitions a queue has that keeps each key's last event.
async fn kept(shared: &Shared, name: &Name) -> Result<u32, Error> {
    let mut queue = shared.find_queue(name).await?;
    if queue.as_ref().is_some_and(|queue| !queue.latest) {
        // Perhaps it does by now.
        queue = shared.ask_queue(name).await?;
    }
    match queue {
        Some(queue) if queue.latest => Ok(queue.partitions),
        Some(_) => Err(Error::not_latest(name)),
        None => Err(Error::NoQueue(name.to_string())),
    }
}

async fn ask(
    shared: &Shared,
    place: &Place,
    digest: &[u8],
    after: u64,
    limit: usize,
) -> Result<(Ran, Vec<u64>), Error> {
    let (after, limit) = (after.to_string(), limit.to_string());
    for _ in 0..ATTEMPTS {
        let ran = shared.run_on(&LATEST, place, &[], &[digest, after.as_bytes(), limit.as_bytes()]).await?;
        if let Value::Array(_) = ran.value {
            let positions = Vec::<u64>::from_redis_value_ref(&ran.value).map_err(|_| unexpected())?;
            return Ok((ran, positions));
        }
        build(shared, place).await?;
    }
    Err(is_built())
}

/// What is said while versions and last events aren't known.
pub(super) fn is_built() -> Error {
    Error::Unavailable("the last events of the queue's keys are being looked up in its log".to_owned())
}

/// [`build`], beside whoever needs it, unless that is being done.
pub(super) fn build_aside(shared: &Arc<Shared>, place: &Arc<Place>) {
    if place.building.try_lock().is_ok() {
        let (shared, place) = (shared.clone(), place.clone());
        tokio::spawn(async move { build(&shared, &place).await });
    }
}

/// Builds a partition's view of its log, one at a time a node; what others build meanwhile is the same.
pub(super) async fn build(shared: &Shared, place: &Place) -> Result<(), Error> {
    let _alone = place.building.lock().await;
    let Ran { view, value } = shared.run_on(&LATEST, place, &[], &[b"", b"0", b"0"]).await?;
    if let Value::Array(_) = value {
        // Who had the lock before has built it.
        return Ok(());
    }
    let (lineage, mut from) = (view.lineage.to_string(), view.floor);
    tracing::info!(queue = %place.queue, partition = place.partition, "each key's last event is looked up in the log");
    loop {
        let part = log::read(shared, place, from, PAGE).await?;
        from = part.entries.last().map_or(part.view.next, |entry| entry.position + 1);
        let mut args: Vec<Vec<u8>> = vec![lineage.clone().into(), vec![b'0' + u8::from(from >= part.view.next)]];
        for entry in &part.entries {
            args.push(entry.position.to_string().into());
            args.push(digest(entry.envelope.key()).to_vec());
        }
        let ran = shared.run(&VIEW, &place.queue, place.partition, &[], &args).await?;
        if ran.value != Value::Int(1) || from >= part.view.next {
            return Ok(());
        }
    }
}
