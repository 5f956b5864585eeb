//! A bus is copied from a SQLite file to Redis, positions kept: clients' cursors and bookmarks, relays' numbers and groups'
//! places hold there as they held in the file.
//!
//! Nobody may have the file open, and it isn't changed. What is written is known to nobody until all of it was written and
//! counted; then the queues are registered. A copy that was killed goes on where it was when it is begun again from the
//! same file. Neither leases nor who was present outlive the file's last owner; what the bus tells of itself in a queue SYS that is
//! there already is left out.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use events::{Envelope, Name};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Backend as _, Group, Lineages, PublishOptions, Queue,
    batch::{BYTES, EVENTS},
    claiming::Entry,
    ledger::{Ledger, Record},
    redis::{Options, Redis, There},
    sqlite::Source,
    sys,
};

/// Dead letters that are read at once.
const LETTERS: usize = 64;
/// Bookmarks that are read at once: a place may be half a megabyte.
const PLACES: usize = 16;
/// What a copy's name is made in.
const NAMES: Uuid = Uuid::from_u128(0x5d0a_6c1e_8b32_4f6d_9c4e_27f1_60b8_d395);

/// What is to be copied.
#[derive(Clone)]
pub struct CopyOptions<'a> {
    pub from: &'a Path,
    /// The URL of Redis.
    pub to: &'a str,
    pub options: Options,
    /// Says what would be copied, and writes nothing.
    pub dry_run: bool,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug)]
pub struct Copying<'a> {
    pub queue: &'a Name,
    pub partition: u32,
    /// Events that are there, of so many.
    pub events: u64,
    pub of: u64,
}

/// What was copied, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    pub queues: Vec<CopiedQueue>,
    pub groups: Vec<CopiedGroup>,
    /// Events that wait for their time.
    pub scheduled: u64,
    /// Places that are kept for clients.
    pub bookmarks: u64,
    /// What stays behind, and why.
    pub left_out: Vec<String>,
    /// All of it was there already, from an earlier run.
    pub already: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopiedQueue {
    pub name: String,
    pub partitions: u32,
    pub events: u64,
    pub bytes: u64,
    /// Outboxes that go on with their next number.
    pub outboxes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopiedGroup {
    pub name: String,
    pub queue: String,
    /// Events that were looked at and not settled.
    pub unsettled: u64,
    pub dead: u64,
}

/// A partition as it lies in the file.
pub(crate) struct QueuePart {
    /// Of its row.
    pub(crate) id: i64,
    pub(crate) floor: u64,
    pub(crate) next: u64,
    pub(crate) bytes: u64,
    pub(crate) lineages: Arc<Lineages>,
    /// When its newest event was recorded, in milliseconds since 1970.
    pub(crate) recorded: i64,
    pub(crate) outboxes: Vec<Outbox>,
}

pub(crate) struct Outbox {
    pub(crate) name: String,
    /// Its last number.
    pub(crate) last: u64,
    /// First number, position, count of the latest stretches of numbers.
    pub(crate) runs: Vec<(u64, u64, u64)>,
}

/// A group as it lies in the file.
pub(crate) struct GroupPart {
    /// Of its row.
    pub(crate) id: i64,
    pub(crate) group: Group,
    pub(crate) generation: u32,
    /// One a partition.
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) claimed: i64,
    pub(crate) abandoned: Option<i64>,
    pub(crate) deaths: i64,
    pub(crate) mourned: i64,
}

/// An event as it is stored.
pub(crate) struct Raw {
    pub(crate) position: u64,
    /// Milliseconds since 1970.
    pub(crate) recorded: i64,
    pub(crate) json: Vec<u8>,
}

/// A bookmark as it lies in the file.
pub(crate) struct Place {
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) filter: String,
    pub(crate) cursor: Option<String>,
    pub(crate) holder: u64,
    /// Milliseconds since 1970.
    pub(crate) used: i64,
}

/// A dead letter.
pub(crate) struct Buried {
    pub(crate) position: u64,
    /// None where it can't be read.
    pub(crate) entry: Option<Entry>,
    pub(crate) reason: String,
    pub(crate) error: String,
    /// Its attempts and their history.
    pub(crate) record: Record,
    pub(crate) died: i64,
    /// It is with its group again.
    pub(crate) redriven: bool,
}

/// Copies a bus. `tell` hears how far it is, at most once an entry of 256 events or 1 MiB.
///
/// # Errors
/// If the file is in use, or not one of this version; if Redis is away, isn't what the bus needs, or holds queues or groups
/// of these names that aren't from this very copy; if what was written isn't what was read. Except in the first cases it
/// can be begun again.
pub async fn copy(what: CopyOptions<'_>, mut tell: impl FnMut(Copying<'_>)) -> anyhow::Result<Copied> {
    let source = Source::open(what.from)?;
    let (mut queues, mut groups) = source.state().context("the file can't be read")?;
    let name = name(&queues);
    let redis = Redis::open(what.to, what.options.clone()).await?;
    let mut copied = Copied::default();
    leave_out(&redis, &name, &mut queues, &mut groups, &mut copied).await?;
    copied.already = is_free(&redis, &name, &queues, &groups).await?;
    count(&source, &queues, &groups, &mut copied)?;
    if what.dry_run || copied.already {
        return Ok(copied);
    }
    for (queue, parts) in &queues {
        for (partition, part) in (0..).zip(parts) {
            let target = redis.target(&name, queue, partition);
            let Some(at) = target.begin(part.floor).await? else { continue };
            let all = part.next - part.floor;
            let said = |at: u64| Copying { queue: &queue.name, partition, events: at - part.floor, of: all };
            tell(said(at));
            write(&source, &redis, &target, queue, part, at, |at| tell(said(at))).await?;
            for group in groups.iter().filter(|group| group.group.filter.queue == queue.name) {
                let letters = |after| Ok(source.letters(group.id, part.id, after, LETTERS)?);
                target.write_group(part, group, letters).await?;
            }
            check(&source, &target, queue, part, &groups, partition).await?;
            target.end(part).await?;
        }
    }
    // Before the queues: with them it is known that all of it is there.
    bookmark(&source, &redis).await?;
    for (queue, _) in &queues {
        redis.register_queue(queue).await?;
    }
    schedule(&source, &redis).await?;
    for group in &groups {
        redis.register_group(&group.group).await?;
    }
    Ok(copied)
}

/// What a file in this state is called: the next opening begins lineages.
fn name(queues: &[(Queue, Vec<QueuePart>)]) -> String {
    let lineage = |part: &QueuePart| part.lineages.current().map_or(0, |lineage| lineage.id);
    let of = |(queue, parts): &(Queue, Vec<QueuePart>)| {
        let lineages: Vec<String> = parts.iter().map(|part| lineage(part).to_string()).collect();
        format!("{}:{}", queue.name, lineages.join(","))
    };
    let all: Vec<String> = queues.iter().map(of).collect();
    Uuid::new_v5(&NAMES, all.join(";").as_bytes()).to_string()
}

/// A running bus tells of itself: what this one told stays in its file then.
async fn leave_out(
    redis: &Redis,
    name: &str,
    queues: &mut Vec<(Queue, Vec<QueuePart>)>,
    groups: &mut Vec<GroupPart>,
    copied: &mut Copied,
) -> anyhow::Result<()> {
    let sys = sys::queue();
    if queues.iter().any(|(queue, _)| queue.name == sys.name) && redis.what_is_there(name, &sys).await? == There::Other
    {
        queues.retain(|(queue, _)| queue.name != sys.name);
        groups.retain(|group| group.group.filter.queue != sys.name);
        copied.left_out.push("the queue SYS and its groups: there is one already".to_owned());
    }
    Ok(())
}

/// Whether all of it is there already, from this copy.
async fn is_free(
    redis: &Redis,
    name: &str,
    queues: &[(Queue, Vec<QueuePart>)],
    groups: &[GroupPart],
) -> anyhow::Result<bool> {
    let mut missing = 0;
    let mut others = Vec::new();
    for (queue, _) in queues {
        match redis.what_is_there(name, queue).await? {
            There::Nothing => missing += 1,
            There::Copied => {}
            There::Other => others.push(queue.name.to_string()),
        }
    }
    ensure!(
        others.is_empty(),
        "queues are there already that aren't from this copy: {}. Copy into an empty namespace (--namespace), or empty this one",
        others.join(", ")
    );
    let begins = missing > 0;
    for GroupPart { group, .. } in groups {
        match redis.group_there(&group.name).await? {
            None => missing += 1,
            Some(there) => ensure!(
                there.filter.queue == group.filter.queue && !begins,
                "a group {} is there already: copy into an empty namespace (--namespace), or empty this one",
                group.name
            ),
        }
    }
    Ok(missing == 0)
}

/// What there is to copy.
fn count(
    source: &Source,
    queues: &[(Queue, Vec<QueuePart>)],
    groups: &[GroupPart],
    copied: &mut Copied,
) -> anyhow::Result<()> {
    for (queue, parts) in queues {
        copied.queues.push(CopiedQueue {
            name: queue.name.to_string(),
            partitions: queue.partitions,
            events: parts.iter().map(|part| part.next - part.floor).sum(),
            bytes: parts.iter().map(|part| part.bytes).sum(),
            outboxes: parts.iter().map(|part| part.outboxes.len() as u64).sum(),
        });
    }
    for group in groups {
        let parts = queues.iter().find(|(queue, _)| queue.name == group.group.filter.queue).map(|(_, parts)| parts);
        let mut dead = 0;
        for part in parts.into_iter().flatten() {
            let (all, redriven) = source.count_letters(group.id, part.id)?;
            dead += all - redriven;
        }
        copied.groups.push(CopiedGroup {
            name: group.group.name.clone(),
            queue: group.group.filter.queue.to_string(),
            unsettled: group.ledgers.iter().map(|ledger| ledger.unsettled() as u64).sum(),
            dead,
        });
    }
    copied.bookmarks = source.count_bookmarks()?;
    let mut after = 0;
    loop {
        let events = source.scheduled(after, EVENTS)?;
        let Some((last, _)) = events.last() else { return Ok(()) };
        after = *last;
        copied.scheduled += events.len() as u64;
    }
}

/// Writes a partition's events from a position on.
async fn write(
    source: &Source,
    redis: &Redis,
    target: &crate::redis::Target<'_>,
    queue: &Queue,
    part: &QueuePart,
    mut at: u64,
    mut told: impl FnMut(u64),
) -> anyhow::Result<()> {
    // What is repeated is known as long as it would have been.
    let reach = i64::try_from(queue.dedupe.as_millis()).unwrap_or(i64::MAX);
    let since = redis.now().max(part.recorded).saturating_sub(reach);
    let known_from = (part.next.saturating_sub(redis.dedupe_events()), since);
    let mut bytes = source.bytes(part.id, at)?;
    while at < part.next {
        let events = source.events(part.id, at, part.next, EVENTS, BYTES)?;
        let dense = events.iter().zip(at..).all(|(event, position)| event.position == position);
        ensure!(dense && !events.is_empty(), "{}: events are missing from position {at} on", queue.name);
        target.write(part, &events, bytes, known_from).await?;
        bytes += events.iter().map(|event| event.json.len() as u64).sum::<u64>();
        at += events.len() as u64;
        told(at);
    }
    Ok(())
}

/// Whether what is there is what was read.
async fn check(
    source: &Source,
    target: &crate::redis::Target<'_>,
    queue: &Queue,
    part: &QueuePart,
    groups: &[GroupPart],
    partition: u32,
) -> anyhow::Result<()> {
    let expected = (source.count(part.id)?, part.bytes);
    let there = target.count().await?;
    ensure!(there == expected, "{} has {there:?} events and bytes there, and {expected:?} in the file", queue.name);
    for group in groups.iter().filter(|group| group.group.filter.queue == queue.name) {
        let Some(ledger) = group.ledgers.get(partition as usize) else { continue };
        let (letters, redriven) = source.count_letters(group.id, part.id)?;
        let expected = (ledger.next(), ledger.records().count() as u64, letters, letters - redriven);
        let there = target.count_group(&group.group.name).await?;
        if there != expected {
            bail!("the group {} stands at {there:?} there, and at {expected:?} in the file", group.group.name);
        }
    }
    Ok(())
}

/// Has clients go on by their names where they were.
async fn bookmark(source: &Source, redis: &Redis) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let places = source.bookmarks(after.as_ref(), PLACES)?;
        let Some(last) = places.last() else { return Ok(()) };
        redis.put_bookmarks(&places).await?;
        after = Some((last.user.clone(), last.name.clone()));
    }
}

/// Has the events wait that wait for their time. A repeated one is known by its id.
async fn schedule(source: &Source, redis: &Redis) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let events = source.scheduled(after, EVENTS / 64)?;
        let Some((last, _)) = events.last() else { return Ok(()) };
        after = *last;
        let events: Vec<Envelope> = events.into_iter().map(|(_, envelope)| envelope).collect();
        for outcome in redis.publish(events, PublishOptions::default()).await? {
            outcome.context("an event that waits for its time was refused")?;
        }
    }
}
