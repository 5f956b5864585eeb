//! What wakes those who wait: hints by Pub/Sub, at once but without a promise; and a look at every partition that is
//! followed, once a second, which also finds a log that was flushed and a server that restarted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use events::Name;
use futures_util::{StreamExt as _, future::try_join_all};
use redis::{Value, aio::PubSub};
use tokio::time::{MissedTickBehavior, timeout};

use super::{group, offer, recent::Told, shared::Shared};
use crate::Error;

const LOOK: Duration = Duration::from_secs(1);
/// Between attempts to hear the hints.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so long without a hint it is asked whether anybody is there, and waited for an answer as long again.
const SILENCE: Duration = Duration::from_secs(5);

/// Hears the hints, until the bus is closed.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut pause = PAUSE;
    while !shared.closed.is_cancelled() {
        let listening = shared.closed.run_until_cancelled(shared.server.listen(&shared.keys().hint())).await;
        if let Some(Ok(listener)) = listening {
            pause = PAUSE;
            // Whatever was hinted before is made up for.
            wake_all(&shared);
            shared.closed.run_until_cancelled(hear(&shared, listener)).await;
        }
        shared.closed.run_until_cancelled(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the connection breaks, or is silent in spite of a question: it may only look open.
async fn hear(shared: &Shared, listener: PubSub) {
    let (mut asks, mut hints) = listener.split();
    loop {
        match timeout(SILENCE, hints.next()).await {
            Ok(Some(hint)) => heard(shared, hint.get_payload_bytes()),
            Ok(None) => return,
            Err(_) => match timeout(SILENCE, asks.ping::<Value>()).await {
                Ok(Ok(_)) => {}
                _ => return,
            },
        }
    }
}

fn heard(shared: &Shared, hint: &[u8]) {
    if let Some(told) = Told::read(hint) {
        return recorded(shared, &told);
    }
    let hint = String::from_utf8_lossy(hint);
    // What this node did it knows.
    let hint = match hint.split_once('@') {
        Some((_, node)) if node == shared.roster.node() => return,
        Some((hint, _)) => hint,
        None => hint.as_ref(),
    };
    match hint.split_once(':') {
        Some(("q", queue)) => {
            if let Ok(queue) = Name::new(queue) {
                shared.wake_queue(&queue);
            }
        }
        Some(("s", queue)) => {
            if let Ok(queue) = Name::new(queue) {
                shared.wake_settled(&queue);
            }
        }
        Some(("g", group)) => shared.wake_group(group),
        Some(("w", _)) => shared.schedule.look(),
        _ => tracing::debug!(hint, "a hint of another version"),
    }
}

/// Something was recorded, and is told along.
fn recorded(shared: &Shared, told: &Told<'_>) {
    let known = Name::new(told.queue).ok().and_then(|queue| shared.queue(&queue));
    let Some(queue) = known.filter(|queue| told.partition < queue.partitions) else { return };
    if shared.is_followed(&queue.name) {
        shared.place(&queue.name, told.partition).recorded(told);
        shared.wake_queue(&queue.name);
    }
}

/// Looks once a second at what is followed here, until the bus is closed.
pub(super) async fn look(shared: Arc<Shared>) {
    let mut seen = HashMap::new();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    while shared.closed.run_until_cancelled(ticks.tick()).await.is_some() {
        let looked = async {
            offer::learn(&shared).await?;
            shared.refresh().await?;
            look_once(&shared, &mut seen).await?;
            group::tick(&shared).await
        };
        match shared.closed.run_until_cancelled(looked).await {
            Some(Err(error)) if !away => {
                tracing::warn!(%error, "redis is away");
                away = true;
            }
            Some(Ok(())) if away => {
                tracing::info!("redis is back");
                away = false;
            }
            _ => {}
        }
    }
}

/// `seen`: of each partition, the lineage and the next position when it was last looked at.
async fn look_once(shared: &Shared, seen: &mut HashMap<(Name, u32), (u64, u64)>) -> Result<(), Error> {
    let followed = followed(shared);
    for queue in shared.queues().iter().filter(|queue| followed.contains(&queue.name)) {
        let mut changed = false;
        let looking = (0..queue.partitions).map(|partition| shared.look(&queue.name, partition));
        for (partition, looked) in (0..).zip(try_join_all(looking).await?) {
            let now = (looked.view.lineage, looked.view.next);
            let before = seen.insert((queue.name.clone(), partition), now);
            changed |= before != Some(now);
        }
        if changed {
            shared.wake_queue(&queue.name);
        }
    }
    // Settling leaves no trace in the log: who waits for it looks again.
    for queue in shared.wakes.settled.watched() {
        shared.wake_settled(&queue);
    }
    Ok(())
}

/// The queues that somebody here waits for, or whose groups.
fn followed(shared: &Shared) -> Vec<Name> {
    let mut queues = shared.wakes.appended.watched();
    queues.extend(
        shared.wakes.claimable.watched().iter().filter_map(|group| Some(shared.group(group)?.filter.queue.clone())),
    );
    queues
}

fn wake_all(shared: &Shared) {
    for queue in shared.queues() {
        shared.wake_queue(&queue.name);
        shared.wake_settled(&queue.name);
    }
}
