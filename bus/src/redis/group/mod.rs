//! Groups: claiming, settling, dead letters, moving. One state machine for every backend, the ledger; here its state of a
//! partition lies in Redis, every node keeps a copy, and whatever is done is worked out on the copy and committed if the
//! state is still that one (`keeper.rs`, `desk.rs`).

mod answer;
mod dead;
mod declare;
mod delete;
mod desk;
mod holders;
mod job;
mod keeper;
mod letter;
mod orphan;
mod presence;
mod state;
mod team;
mod window;

use std::{collections::BTreeMap, sync::Arc};

use events::Name;
use futures_util::future::try_join_all;

pub(super) use dead::{dead_letters, discard, redrive};
pub(super) use declare::declare;
pub(super) use delete::{delete, erase};
pub(super) use letter::copied as letter_text;
pub(super) use state::fields;
pub(super) use team::Teams;

use super::{server::unexpected, shared::Shared};
use crate::{Claim, Claimed, Error, GroupStatus, LeaseLost, LostRange, Settlement, Sought, Standing, Start, Which};
use job::{Answer, Ask, Looked, Want};
use team::Team;

pub(super) async fn claim(shared: &Arc<Shared>, claim: Claim) -> Result<Claimed, Error> {
    let team = Team::of(shared, &claim.group).await?;
    let mut want = Want { member: claim.member.into(), events: claim.max, bytes: claim.bytes.max(1) };
    let mut all = Claimed::default();
    for keeper in team.turns() {
        if want.events == 0 || want.bytes == 0 {
            break;
        }
        match keeper.ask(Ask::Claim(want.clone())).await {
            Ok(Answer::Claimed { claimed, bytes, .. }) => {
                want = Want { events: want.events.saturating_sub(claimed.leased.len()), bytes, ..want };
                all.leased.extend(claimed.leased);
                all.more |= claimed.more;
            }
            Ok(_) => return Err(unexpected()),
            // What it has of other partitions it should not have to wait for.
            Err(_) if !all.leased.is_empty() => all.more = true,
            Err(error) => return Err(error),
        }
    }
    all.more |= want.events == 0 || want.bytes == 0;
    Ok(all)
}

pub(super) async fn settle(
    shared: &Arc<Shared>,
    group: &str,
    settlements: Vec<Settlement>,
) -> Result<Vec<Result<(), LeaseLost>>, Error> {
    let team = Team::of(shared, group).await?;
    let mut outcomes = vec![Err(LeaseLost); settlements.len()];
    let mut of: BTreeMap<u32, (Vec<usize>, Vec<Settlement>)> = BTreeMap::new();
    for (at, settlement) in settlements.into_iter().enumerate() {
        let (places, batch) = of.entry(settlement.token.partition).or_default();
        places.push(at);
        batch.push(settlement);
    }
    let asked = of.into_iter().filter_map(|(partition, (places, batch))| {
        let keeper = team.keepers.get(partition as usize)?;
        Some(async move { Ok::<_, Error>((places, keeper.ask(Ask::Settle(batch)).await?)) })
    });
    for (places, answer) in try_join_all(asked).await? {
        let Answer::Settled(settled) = answer else { return Err(unexpected()) };
        for (place, outcome) in places.into_iter().zip(settled) {
            outcomes[place] = outcome;
        }
    }
    Ok(outcomes)
}

pub(super) async fn standing(
    shared: &Arc<Shared>,
    queue: &Name,
    partition: u32,
    position: u64,
) -> Result<BTreeMap<String, Standing>, Error> {
    shared.refresh().await?;
    let groups = shared.groups();
    let asked = groups.iter().filter(|group| group.filter.queue == *queue).map(|group| async move {
        let team = Team::of(shared, &group.name).await?;
        let Some(keeper) = team.keepers.get(partition as usize) else { return Ok(None) };
        match keeper.ask(Ask::Standing(position)).await? {
            Answer::Standing { standing, .. } => Ok(Some((group.name.clone(), standing))),
            _ => Err(unexpected()),
        }
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

pub(super) async fn statuses(shared: &Arc<Shared>) -> Result<Vec<GroupStatus>, Error> {
    shared.refresh().await?;
    let groups = shared.groups();
    try_join_all(groups.iter().map(|group| status(shared, &group.name))).await
}

async fn status(shared: &Arc<Shared>, group: &str) -> Result<GroupStatus, Error> {
    let team = Team::of(shared, group).await?;
    let mut status = GroupStatus::of(&team.group);
    for (partition, looked) in (0..).zip(look(&team).await?) {
        status.lag += looked.lag;
        status.in_flight += looked.in_flight;
        status.retrying += looked.retrying;
        status.parked += looked.parked;
        status.dead += looked.dead;
        status.blocked += looked.blocked;
        status.blocked_by_key |= looked.full;
        status.oldest = [status.oldest, looked.oldest].into_iter().flatten().min();
        status.next.push(looked.next);
        status.abandoned = [status.abandoned, looked.abandoned].into_iter().flatten().min();
        status.lost += looked.lost.total();
        status.lost_ranges.extend(looked.lost.ranges().map(|(from, to)| LostRange { partition, from, to }));
    }
    Ok(status)
}

/// Looks at every partition, which also does what is due.
async fn look(team: &Team) -> Result<Vec<Looked>, Error> {
    let asked = team.keepers.iter().map(|keeper| async move {
        match keeper.ask(Ask::Look).await? {
            Answer::Looked(looked) => Ok(looked),
            _ => Err(unexpected()),
        }
    });
    try_join_all(asked).await
}

pub(super) async fn hurry(shared: &Arc<Shared>, group: &str, which: Which) -> Result<u64, Error> {
    let which = Arc::new(which);
    let mut hurried = 0;
    for (partition, keeper) in Team::of(shared, group).await?.numbered() {
        match keeper.ask(Ask::Hurry { partition, which: which.clone() }).await? {
            Answer::Count(here) => hurried += here,
            _ => return Err(unexpected()),
        }
    }
    Ok(hurried)
}

pub(super) async fn seek(shared: &Arc<Shared>, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error> {
    let team = Team::of(shared, group).await?;
    let mut sought = Sought::default();
    for keeper in &team.keepers {
        match keeper.ask(Ask::Seek { to, dry_run }).await? {
            Answer::Sought(here) => sought += here,
            _ => return Err(unexpected()),
        }
    }
    if !dry_run {
        tracing::info!(group, again = sought.again, skipped = sought.skipped, "group moved");
    }
    Ok(sought)
}

/// What time does, once a second, for the groups that somebody here waits for: leases end, delays end. Also called by
/// `Redis::housekeep`.
pub(super) async fn tick(shared: &Arc<Shared>) -> Result<(), Error> {
    let watched = shared.wakes.claimable.watched();
    let known = watched.iter().filter(|group| shared.group(group).is_some());
    try_join_all(known.map(|group| async move { look(&Team::of(shared, group).await?).await })).await?;
    Ok(())
}

/// What is done once a minute: old dead letters are forgotten.
pub(super) async fn housekeep(shared: &Arc<Shared>) -> Result<(), Error> {
    for group in shared.groups() {
        for keeper in &Team::of(shared, &group.name).await?.keepers {
            keeper.ask(Ask::Forget).await?;
        }
    }
    Ok(())
}
