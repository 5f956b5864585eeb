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
        for positions in chosen(shared, &team, partition, &which).await?.chunks(AT_ONCE) {
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
        for positions in chosen(shared, &team, partition, &which).await?.chunks(AT_ONCE) {
            match keeper.ask(Ask::Discard(positions.to_vec())).await? {
                Answer::Count(count) => discarded += count,
                _ => return Err(unexpected()),
            }
            tracing::info!(group, partition, ?positions, "dead letters discarded");
        }
    }
    Ok(discarded)
}

/// The letters meant: those that are there and not with their group again.
async fn chosen(shared: &Shared, team: &Team, partition: u32, which: &Which) -> Result<Vec<u64>, Error> {
    let these: Option<BTreeSet<u64>> = match which {
        Which::All => None,
        Which::These(these) => {
            Some(these.iter().filter(|(of, _)| *of == partition).map(|(_, position)| *position).collect())
        }
    };
    if these.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Vec::new());
    }
    let there = list(shared, team, partition, 0, UNSETTLED, false).await?;
    let positions = there.into_iter().map(|(position, _)| position);
    Ok(positions.filter(|position| these.as_ref().is_none_or(|these| these.contains(position))).collect())
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
