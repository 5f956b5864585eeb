//! Dead letters: listed, given to their group again, forgotten.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use redis::FromRedisValue as _;

use super::{
    super::{
        script::{Script, WhenFull},
        server::unexpected,
        shared::Shared,
    },
    answer::PACE,
    job::{Answer, Ask},
    letter,
    team::Team,
};
use crate::{DeadLetter, Error, Which, lease::UNSETTLED};

/// Letters of a page, and of a commit.
const PAGE: usize = 1000;
const AT_ONCE: usize = 250;

static LETTERS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/letters.lua"), WhenFull::Runs));

pub(in crate::redis) async fn dead_letters(
    shared: &Arc<Shared>,
    group: &str,
    after: (u32, u64),
    limit: usize,
) -> Result<Vec<DeadLetter>, Error> {
    let team = Team::of(shared, group).await?;
    let limit = limit.min(PAGE);
    let mut letters = Vec::new();
    for (partition, keeper) in team.numbered().skip(after.0 as usize) {
        // Whose time has come dies first.
        keeper.ask(Ask::Look).await?;
        let after = if partition == after.0 { after.1 } else { 0 };
        let found = list(shared, &team, partition, after, limit - letters.len(), true).await?;
        letters.extend(
            found
                .into_iter()
                .filter_map(|(position, text)| Some(letter::read(&text?, position)?.into_dead_letter(partition))),
        );
    }
    Ok(letters)
}

pub(in crate::redis) async fn redrive(shared: &Arc<Shared>, group: &str, which: Which) -> Result<u64, Error> {
    let team = Team::of(shared, group).await?;
    let mut redriven = 0;
    for (partition, keeper) in team.numbered() {
        // More than a group may leave unsettled it doesn't get.
        for positions in chosen(shared, &team, partition, &which, 0).await?.chunks(AT_ONCE) {
            let pause = PACE * i64::try_from(redriven).unwrap_or(0);
            match keeper.ask(Ask::Redrive { positions: positions.to_vec(), pause }).await? {
                Answer::Count(count) => redriven += count,
                _ => return Err(unexpected()),
            }
        }
    }
    Ok(redriven)
}

pub(in crate::redis) async fn discard(shared: &Arc<Shared>, group: &str, which: Which) -> Result<u64, Error> {
    let team = Team::of(shared, group).await?;
    let mut discarded = 0;
    for (partition, keeper) in team.numbered() {
        let mut after = 0;
        loop {
            let chosen = chosen(shared, &team, partition, &which, after).await?;
            let Some(last) = chosen.last() else { break };
            after = *last;
            for positions in chosen.chunks(AT_ONCE) {
                match keeper.ask(Ask::Discard(positions.to_vec())).await? {
                    Answer::Count(count) => discarded += count,
                    _ => return Err(unexpected()),
                }
                tracing::info!(group, partition, ?positions, "dead letters discarded");
            }
        }
    }
    Ok(discarded)
}

/// The letters meant of a partition, after a position: those that are named, whether they are there or not; or the next of all
/// that are there and not with their group again.
async fn chosen(shared: &Shared, team: &Team, partition: u32, which: &Which, after: u64) -> Result<Vec<u64>, Error> {
    match which {
        Which::These(these) => {
            let here = these.iter().filter(|(of, position)| *of == partition && *position > after);
            Ok(here.map(|(_, position)| *position).collect::<BTreeSet<_>>().into_iter().collect())
        }
        Which::All => {
            let there = list(shared, team, partition, after, UNSETTLED, false).await?;
            Ok(there.into_iter().map(|(position, _)| position).collect())
        }
    }
}

/// Positions of dead letters, with their texts if they are asked for.
async fn list(
    shared: &Shared,
    team: &Team,
    partition: u32,
    after: u64,
    limit: usize,
    texts: bool,
) -> Result<Vec<(u64, Option<String>)>, Error> {
    let queue = &team.group.filter.queue;
    let keys = shared.keys().group_keys(queue, partition, &team.group.name);
    let args = [after.to_string(), limit.to_string(), u8::from(texts).to_string()].map(String::into_bytes);
    let ran = shared.run(&LETTERS, queue, partition, &[keys.dead, keys.order], &args).await?;
    if texts {
        let letters = Vec::<(u64, String)>::from_redis_value(ran.value).map_err(|_| unexpected())?;
        return Ok(letters.into_iter().map(|(position, text)| (position, Some(text))).collect());
    }
    let positions = Vec::<u64>::from_redis_value(ran.value).map_err(|_| unexpected())?;
    Ok(positions.into_iter().map(|position| (position, None)).collect())
}
