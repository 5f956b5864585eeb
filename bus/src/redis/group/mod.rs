//! Groups: claiming, settling, dead letters, moving.

use std::collections::BTreeMap;

use events::Name;

use super::shared::Shared;
use crate::{
    Claim, Claimed, DeadLetter, Error, Group, GroupStatus, LeaseLost, Settlement, Sought, Standing, Start, Which,
};

pub(super) async fn declare(shared: &Shared, group: Group) -> Result<(), Error> {
    let _ = (shared, group);
    todo!("groups")
}

pub(super) async fn claim(shared: &Shared, claim: Claim) -> Result<Claimed, Error> {
    let _ = (shared, claim);
    todo!("groups")
}

pub(super) async fn settle(
    shared: &Shared,
    group: &str,
    settlements: Vec<Settlement>,
) -> Result<Vec<Result<(), LeaseLost>>, Error> {
    let _ = (shared, group, settlements);
    todo!("groups")
}

pub(super) async fn standing(
    shared: &Shared,
    queue: &Name,
    partition: u32,
    position: u64,
) -> Result<BTreeMap<String, Standing>, Error> {
    let _ = (shared, queue, partition, position);
    todo!("groups")
}

pub(super) async fn statuses(shared: &Shared) -> Result<Vec<GroupStatus>, Error> {
    let _ = shared;
    Ok(Vec::new())
}

pub(super) async fn dead_letters(
    shared: &Shared,
    group: &str,
    after: (u32, u64),
    limit: usize,
) -> Result<Vec<DeadLetter>, Error> {
    let _ = (shared, group, after, limit);
    todo!("groups")
}

pub(super) async fn redrive(shared: &Shared, group: &str, which: Which) -> Result<u64, Error> {
    let _ = (shared, group, which);
    todo!("groups")
}

pub(super) async fn discard(shared: &Shared, group: &str, which: Which) -> Result<u64, Error> {
    let _ = (shared, group, which);
    todo!("groups")
}

pub(super) async fn seek(shared: &Shared, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error> {
    let _ = (shared, group, to, dry_run);
    todo!("groups")
}

/// What time does, once a second: leases end, delays end. Also called by `Redis::housekeep`.
pub(super) async fn tick(shared: &Shared) -> Result<(), Error> {
    let _ = shared;
    Ok(())
}

/// What is done once a minute: old dead letters are forgotten, gauges are set.
pub(super) async fn housekeep(shared: &Shared) -> Result<(), Error> {
    let _ = shared;
    Ok(())
}
