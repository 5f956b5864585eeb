//! Queues and groups come into being, or change their settings.

use rusqlite::params;

use super::{
    latest, load,
    log::signed,
    owned::{self, Answer, Owned},
    store,
};
use crate::{Error, Group, Queue, ledger::Ledger, policy::Policy};

pub(super) fn queue(state: &mut Owned, settings: Queue, now: i64) -> Answer<()> {
    let name = settings.name.clone();
    if let Err(error) = settings.validate() {
        return Ok(Err(error));
    }
    if let Some(known) = state.queues.get(&name)
        && known.settings.partitions != settings.partitions
        && known.partitions.iter().any(|partition| partition.log.next > 1)
    {
        return Ok(Err(Error::Conflict(format!(
            "partitions: {name} has events and {} partitions, which can't change any more",
            known.settings.partitions
        ))));
    }
    let have = state.queues.get(&name).map_or(0, |queue| queue.settings.partitions);
    let had_latest = state.queues.get(&name).is_some_and(|queue| queue.settings.latest);
    if let Some(known) = state.queues.get(&name)
        && settings.latest != had_latest
    {
        if settings.latest && known.partitions.iter().any(|partition| partition.log.len() > latest::BUILT_FROM) {
            return Ok(Err(Error::Conflict(format!(
                "latest: {name} has a partition of more than {} events, too many to look through",
                latest::BUILT_FROM
            ))));
        }
        for partition in &known.partitions {
            match settings.latest {
                true => latest::build(&state.conn, &partition.log)?,
                false => latest::forget(&state.conn, partition.log.id, u64::MAX >> 1)?,
            }
        }
    }
    store::queue(&state.conn, &settings)?;
    if have == settings.partitions {
        if let Some(queue) = state.queues.get_mut(&name) {
            queue.partitions.iter_mut().for_each(|partition| partition.dedupe.set_reach(settings.dedupe));
            queue.settings = settings;
            state.shared.show(queue);
        }
        return Ok(Ok(()));
    }
    state
        .conn
        .prepare_cached("DELETE FROM partition WHERE queue = ?1 AND number >= ?2")?
        .execute(params![name.as_str(), settings.partitions])?;
    for number in have..settings.partitions {
        state
            .conn
            .prepare_cached("INSERT INTO partition (queue, number, floor) VALUES (?1, ?2, 1)")?
            .execute(params![name.as_str(), number])?;
    }
    let mut queue = load::queue(&state.conn, settings, state.dedupe_capacity, now)?;
    for partition in queue.partitions.iter_mut().filter(|partition| partition.log.lineages.current().is_none()) {
        load::new_lineage(&state.conn, &mut partition.log, owned::random_id(&mut state.rng))?;
    }
    for group in state.groups.values_mut().filter(|group| group.group.filter.queue == name) {
        let Group { mode, on_dead, retry, in_flight, .. } = group.group;
        let new = || Ledger::new(mode, 1).with_on_dead(on_dead).with_retry(retry).with_most(in_flight);
        group.ledgers.resize_with(queue.partitions.len(), new);
    }
    state.shared.show(&queue);
    state.queues.insert(name, queue);
    Ok(Ok(()))
}

pub(super) fn group(state: &mut Owned, group: Group, now: i64) -> Answer<()> {
    if let Err(error) = group.validate() {
        return Ok(Err(error));
    }
    if !state.queues.contains_key(&group.filter.queue) {
        queue(state, Queue::initial(group.filter.queue.clone()), now)?.ok();
    }
    let known = state.groups.get(&group.name);
    if let Some(known) = known
        && known.group.filter.queue != group.filter.queue
    {
        return Ok(Err(Error::Conflict(format!(
            "filter: the group {} reads queue {}, not {}",
            group.name, known.group.filter.queue, group.filter.queue
        ))));
    }
    if known.is_some_and(|known| known.group.revision > group.revision) {
        return Ok(Ok(()));
    }
    let is_new = known.is_none();
    let start = known.map_or(group.start, |known| known.group.start);
    let group = Group { start, ..group };
    if known.is_some_and(|known| known.group == group) {
        return Ok(Ok(()));
    }
    // What is in memory goes to the database, from which the group is loaded with its new settings.
    store::ledgers(state)?;
    let policy = serde_json::to_string(&Policy::from(&group)).unwrap_or_default();
    let lease = i64::try_from(group.lease.as_millis()).unwrap_or(i64::MAX);
    state.conn
        .prepare_cached(
            "INSERT INTO consumer_group (name, filter, mode, lease_ms, generation, policy) VALUES (?1, ?2, ?3, ?4, 1, ?5)
             ON CONFLICT (name) DO UPDATE SET filter = excluded.filter, mode = excluded.mode, lease_ms = excluded.lease_ms,
             policy = excluded.policy",
        )?
        .execute(params![group.name, group.filter.to_string(), load::mode_name(group.mode), lease, policy])?;
    let (id, generation) = state
        .conn
        .prepare_cached("SELECT id, generation FROM consumer_group WHERE name = ?1")?
        .query_row([&group.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(queue) = state.queues.get(&group.filter.queue) else {
        return Ok(Err(Error::NoQueue(group.filter.queue.to_string())));
    };
    if is_new {
        for partition in &queue.partitions {
            let next = super::seek::position(&state.conn, &partition.log, group.start)?;
            state
                .conn
                .prepare_cached(
                    "INSERT INTO progress (consumer_group, partition, start, next) VALUES (?1, ?2, ?3, ?3)",
                )?
                .execute(params![id, partition.log.id, signed(next)])?;
        }
    }
    let mut loaded = load::group(&state.conn, id, group, generation, queue)?;
    if let Some(known) = state.groups.remove(&loaded.group.name) {
        // What this transaction did with it before is still to be told.
        (loaded.settled, loaded.deaths, loaded.turn) = (known.settled, known.deaths, known.turn);
    }
    state.groups.insert(loaded.group.name.clone(), loaded);
    Ok(Ok(()))
}

/// A group goes, with all that it knows.
pub(super) fn forget_group(state: &mut Owned, name: &str) -> Answer<()> {
    let Some(group) = state.groups.remove(name) else { return Ok(Ok(())) };
    for forgotten in [
        "DELETE FROM progress WHERE consumer_group = ?1",
        "DELETE FROM unsettled WHERE consumer_group = ?1",
        "DELETE FROM dead WHERE consumer_group = ?1",
        "DELETE FROM consumer_group WHERE id = ?1",
    ] {
        state.conn.prepare_cached(forgotten)?.execute([group.id])?;
    }
    // Whoever waited for it waits no longer.
    state.shared.wakes.settled.wake(&group.group.filter.queue);
    tracing::info!(group = name, "group deleted");
    Ok(Ok(()))
}
