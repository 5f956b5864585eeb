//! A group comes into being, or changes its settings.

use std::sync::Arc;

use super::{
    super::{log, shared::Shared},
    look,
    state::{self, COMMIT, Committer, Held, Letters},
    team::Team,
};
use crate::{Error, Group, Start};

/// How often the beginning of a group is written, while the server restarts.
const ATTEMPTS: usize = 3;

pub(in crate::redis) async fn declare(shared: &Arc<Shared>, group: Group) -> Result<(), Error> {
    group.validate()?;
    let queue = shared.ensure_queue(&group.filter.queue).await?;
    match shared.find_group(&group.name).await? {
        Some(known) if known.filter.queue != group.filter.queue => {
            return Err(Error::Conflict(format!(
                "filter: the group {} reads queue {}, not {}",
                group.name, known.filter.queue, group.filter.queue
            )));
        }
        Some(known) => {
            // Where it began it did, and how many handlers a member runs is the member's.
            let group = Group { start: known.start, concurrency: known.concurrency, ..group };
            // Of one whose declarations are counted, what was written last time may not have reached each partition.
            return if *known == group && group.revision == 0 { Ok(()) } else { register(shared, &group).await };
        }
        // Its place must be there before anybody finds the group, and begins it with the oldest event.
        None => {
            for partition in 0..queue.partitions {
                begin(shared, &group, partition).await?;
            }
        }
    }
    register(shared, &group).await
}

/// Registers its settings. Where its declarations are counted each partition's state says by which one it is worked with:
/// what another node would claim by an earlier one isn't committed.
async fn register(shared: &Arc<Shared>, group: &Group) -> Result<(), Error> {
    shared.change_group(group).await?;
    if group.revision > 0 {
        look(&Team::of(shared, &group.name).await?).await?;
    }
    Ok(())
}

/// Writes where the group begins in a partition, unless it has a place there.
async fn begin(shared: &Shared, group: &Group, partition: u32) -> Result<(), Error> {
    let queue = &group.filter.queue;
    let of = shared.keys().group_keys(queue, partition, &group.name);
    let keys = [of.state, of.dead, of.died, of.order, of.turn];
    let by = Committer { group: &group.name, queue, node: shared.roster.node(), late: false };
    for _ in 0..ATTEMPTS {
        let view = shared.look(queue, partition).await?.view;
        let next = match group.start {
            Start::Earliest => view.floor,
            start => log::position_at(shared, queue, partition, start).await?,
        };
        let mut held = Held::new(group.mode, next, view.lineage);
        held.presence.show(view.now, 0);
        let args = state::commit(&by, &mut held, &Letters::default(), &[]);
        let ran = shared.run(&COMMIT, queue, partition, &keys, &args).await?;
        if !matches!(state::read(ran.value)?, state::Answer::Gone) {
            return Ok(());
        }
    }
    Err(Error::Unavailable("the server restarts".to_owned()))
}
