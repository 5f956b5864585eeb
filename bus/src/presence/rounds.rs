//! Telling the bus of a process's [`Roll`](super::roll::Roll): what changed at once, what is so again and again.
//!
//! It is one loop: a round a second, and one whenever somebody comes or goes. A round tells each partition of `PRESENCE` and
//! `ROOMS` what is new to it and a tenth of all that is so, in calls of [`Told::MOST`] steps, the partitions side by side. What
//! can't be told is told by the next round; nobody is forgotten meanwhile. Where too much of what went can't be told for too
//! long, the node takes another name: what it told by the former one ends by that one's silence.

use std::{collections::BTreeMap, time::Duration};

use events::Name;
use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    Attended, Move, NotJoined, REFRESH, Scope, Step, Told,
    attendance::Shared,
    presence,
    roll::{New, News, Seat},
    rooms,
};
use crate::{Error, Partition, metrics};

const BEAT: Duration = Duration::from_secs(1);
/// Rounds within which everything is told once.
const ROUNDS: u64 = REFRESH.as_secs() / BEAT.as_secs();
/// Calls of a round to a partition that has more to find.
const MORE: usize = 64;
/// How long the last round may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The partitions, as this process knows them.
type Partitions = BTreeMap<(Name, u32), Known>;

#[derive(Default)]
struct Known {
    lineage: u64,
    /// The node goes by another name in each: the lineage changed so often, or news were forgotten.
    lives: u32,
    /// By the name that it has now it told nothing yet.
    is_renamed: bool,
    /// All that is so must be told at once.
    again: bool,
    there: u64,
}

impl Known {
    fn take_another_name(&mut self) {
        self.lives += 1;
        self.is_renamed = true;
        self.again = true;
    }
}

/// Tells the bus who is here, until `stop`; then what is new once more.
pub(super) async fn run(shared: &Shared, stop: CancellationToken) {
    let mut known = Partitions::new();
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        let beats = tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => true,
            () = shared.changed.notified() => false,
        };
        number += u64::from(beats);
        let told = round(shared, &mut known, beats.then_some(number));
        // What is on its way at the end comes to its end, if that doesn't take long.
        let too_long = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            told = told => {
                if let Err(error) = told {
                    tracing::debug!(%error, "who attends was not told");
                }
            }
            () = too_long => return,
        }
    }
    let _ = tokio::time::timeout(FAREWELL, round(shared, &mut known, None)).await;
}

/// Tells what is new; in a round that beats, that the node lives and a part of what is so.
async fn round(shared: &Shared, known: &mut Partitions, beats: Option<u64>) -> Result<(), Error> {
    let mut counts = BTreeMap::new();
    for queue in [presence(), rooms()] {
        let count = shared.bus.partition(&queue, "").await?.count;
        counts.insert(queue, count);
    }
    let telling = work(shared, known, &counts, beats).into_iter().map(|(at, news)| {
        let mut here = known.remove(&at).unwrap_or_default();
        here.again = false;
        async move {
            let told = tell(shared, &at, &mut here, news).await;
            (at, here, told)
        }
    });
    let mut outcome = Ok(());
    for (at, here, told) in join_all(telling).await {
        if here.again {
            shared.changed.notify_one();
        }
        known.insert(at, here);
        outcome = outcome.and(told);
    }
    if beats.is_some() {
        let there =
            |queue: Name| known.iter().filter(|((of, _), _)| *of == queue).map(|(_, known)| known.there).sum::<u64>();
        metrics::present(there(presence()), there(rooms()));
    }
    outcome
}

/// What a round tells each partition.
fn work(
    shared: &Shared,
    known: &mut Partitions,
    counts: &BTreeMap<Name, u32>,
    beats: Option<u64>,
) -> BTreeMap<(Name, u32), News> {
    let place = |scope: &Scope, user: &str| {
        let queue = scope.queue();
        let count = counts.get(&queue).copied().unwrap_or(1);
        let partition = Partition::of(scope.key(user), count).index;
        (queue, partition)
    };
    let mut work: BTreeMap<(Name, u32), News> = BTreeMap::new();
    if beats.is_some() {
        known.retain(|(queue, partition), _| counts.get(queue).is_some_and(|count| partition < count));
        for (queue, count) in counts {
            work.extend((0..*count).map(|partition| ((queue.clone(), partition), News::new())));
        }
    }
    let mut roll = shared.roll.lock();
    if roll.take_forgot() {
        tracing::warn!("too many came and went while the bus was away: who is here is told anew");
        for known in known.values_mut() {
            known.take_another_name();
        }
    }
    let is_due = |turn: u64| beats.is_some_and(|round| turn % ROUNDS == round % ROUNDS);
    let again = |at: &(Name, u32)| known.get(at).is_some_and(|known| known.again);
    let is_wanted = known.values().any(|known| known.again);
    if beats.is_some() || is_wanted {
        let so = roll.seats(|turn, scope, user| is_due(turn) || (is_wanted && again(&place(scope, user))));
        for seat in so {
            let at = place(&seat.scope, &seat.user);
            work.entry(at).or_default().insert(seat, New { what: Move::Enter, waits: Vec::new() });
        }
    }
    for (seat, new) in roll.take_news() {
        work.entry(place(&seat.scope, &seat.user)).or_default().insert(seat, new);
    }
    work
}

/// Tells a partition, in as many calls as it takes. What it can't be told is new still.
async fn tell(shared: &Shared, at: &(Name, u32), here: &mut Known, news: News) -> Result<(), Error> {
    let (queue, partition) = at;
    let mut left = news.into_iter();
    let mut more = MORE;
    loop {
        let now: Vec<(Seat, New)> = left.by_ref().take(Told::MOST).collect();
        let steps = now.iter().map(|(seat, new)| Step {
            what: new.what,
            scope: seat.scope.clone(),
            user: seat.user.clone(),
            connection: seat.connection.clone(),
        });
        let node = format!("{}.{}", shared.bus.roster().node(), here.lives);
        let told = Told { node, steps: steps.collect() };
        match shared.bus.attend(queue, *partition, told).await {
            Ok(attended) => {
                more = more.saturating_sub(usize::from(attended.more));
                let goes_on = attended.more && more > 0;
                answered(here, now, attended);
                if left.len() == 0 && !goes_on {
                    return Ok(());
                }
            }
            Err(error) => {
                shared.roll.lock().give_back(now.into_iter().chain(left), &error);
                return Err(error);
            }
        }
    }
}

fn answered(here: &mut Known, told: Vec<(Seat, New)>, attended: Attended) {
    let is_first = std::mem::take(&mut here.is_renamed) || here.lineage == 0;
    here.again |= !is_first && !attended.known;
    if here.lineage != 0 && here.lineage != attended.lineage {
        // What it knows of this node is of another life, or nothing.
        here.take_another_name();
    }
    here.lineage = attended.lineage;
    here.there = attended.there;
    for ((seat, new), outcome) in told.into_iter().zip(attended.outcomes) {
        if let Err(crowded) = outcome {
            tracing::debug!(connection = seat.connection, scope = seat.scope.as_str(), %crowded, "it doesn't count");
        }
        for waits in new.waits {
            // Whoever asked may have gone meanwhile.
            let _ = waits.send(outcome.map_err(NotJoined::Crowded));
        }
    }
}
