//! Waiting until what is recorded is on disk or has reached replicas: WAITAOF and WAIT.
//!
//! Both speak of what their own connection has written before, and hold that connection up. So publishes don't share one
//! with them: a publish goes its usual way, at its usual speed, and then waits here. A task a level has a connection of its
//! own, on which it marks every partition that is waited for (a small write) and then waits, for all at once. Replication is
//! one stream in order, as the append-only file is: whoever has the mark has all that was recorded before it. That holds on
//! the server that recorded it, so a mark that finds another lineage confirms nothing.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{FromRedisValue as _, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    place::Place,
    script::{Script, WhenFull},
    server::{is_unknown_script, unavailable, unexpected},
    shared::Shared,
};
use crate::{Confirm, Error};

static MARK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/mark.lua"), WhenFull::Runs));

/// Publishes that wait for a level to be taken in; more wait to be sent.
const WAITING: usize = 1024;
/// Publishes of a round.
const ROUND: usize = 4096;
/// The longest that the server is asked to wait in a round: who came meanwhile is in the next.
const LONGEST: Duration = Duration::from_millis(250);
/// How much later than that its answer may come.
const GRACE: Duration = Duration::from_secs(1);
/// Between rounds that failed.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection that nobody needs for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// The tasks, by what they wait for and on which server.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<(Confirm, String), mpsc::Sender<Wait>>>);

/// A publish into one partition that is recorded.
struct Wait {
    place: Arc<Place>,
    /// The one in which the server recorded it, or found it.
    lineage: u64,
    until: Instant,
    answer: oneshot::Sender<Confirm>,
}

/// What the server said in a round.
struct Told {
    /// Of each publish's partition, when it was marked.
    lineages: Vec<u64>,
    /// What the marks have.
    reached: Confirm,
}

/// Waits until what was recorded has the level, at most `until`; the level it has then.
pub(super) async fn reach(
    shared: &Arc<Shared>,
    place: &Arc<Place>,
    lineage: u64,
    level: Confirm,
    until: Instant,
) -> Confirm {
    let (answer, answered) = oneshot::channel();
    let mut wait = Wait { place: place.clone(), lineage, until, answer };
    let waiting = async {
        while let Err(mpsc::error::SendError(back)) = task(shared, level, place).send(wait).await {
            // It has just ended, because nobody had needed it for long.
            wait = back;
        }
        answered.await.unwrap_or_default()
    };
    // The task answers in time, unless the bus is closed or as many wait as may.
    tokio::time::timeout_at(until + GRACE, waiting).await.unwrap_or_default()
}

/// The task that waits for this level on the server that has the partition.
fn task(shared: &Arc<Shared>, level: Confirm, place: &Place) -> mpsc::Sender<Wait> {
    let node = node_of(shared, place);
    let key = (level, node.clone());
    let mut tasks = shared.waits.0.lock();
    if let Some(task) = tasks.get(&key).filter(|task| !task.is_closed()) {
        return task.clone();
    }
    tasks.retain(|_, task| !task.is_closed());
    let (sender, waits) = mpsc::channel(WAITING);
    tokio::spawn(work(shared.clone(), level, node, waits));
    tasks.insert(key, sender.clone());
    sender
}

fn node_of(shared: &Shared, place: &Place) -> String {
    shared.server.node_of(&place.keys.meta)
}

async fn work(shared: Arc<Shared>, level: Confirm, node: String, mut waits: mpsc::Receiver<Wait>) {
    let mut connection = None;
    let mut waiting: Vec<Wait> = Vec::new();
    loop {
        if waiting.is_empty() {
            match tokio::time::timeout(IDLE, shared.closed.run_until_cancelled(waits.recv())).await {
                Ok(Some(Some(wait))) => waiting.push(wait),
                Ok(_) => return,
                // Who has sent something by now is still served; who comes later begins another task.
                Err(_) => waits.close(),
            }
        }
        while waiting.len() < ROUND
            && let Ok(wait) = waits.try_recv()
        {
            waiting.push(wait);
        }
        if waiting.is_empty() {
            return;
        }
        let asked = round(&shared, &mut connection, level, &waiting);
        let Some(told) = shared.closed.run_until_cancelled(asked).await else { return };
        if let Err(error) = &told {
            tracing::debug!(%error, %level, "a level of confirmation can't be waited for at the moment");
            connection = None;
            shared.closed.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            waiting = part(&shared, level, &node, waiting).await;
        }
        waiting = answer(waiting, level, told.ok());
    }
}

/// A partition that is another server's by now fails the round for all: whoever waits for it goes to that server's task.
async fn part(shared: &Arc<Shared>, level: Confirm, node: &str, waiting: Vec<Wait>) -> Vec<Wait> {
    if !shared.server.redis().is_cluster() {
        return waiting;
    }
    let mut places: Vec<&Arc<Place>> = Vec::new();
    for Wait { place, .. } in &waiting {
        if !places.iter().any(|known| Arc::ptr_eq(known, place)) {
            places.push(place);
        }
    }
    // Looking finds where each is.
    let looks = places.into_iter().map(|place| shared.look(&place.queue, place.partition));
    let _ = tokio::time::timeout(GRACE, join_all(looks)).await;
    let (own, moved): (Vec<Wait>, Vec<Wait>) =
        waiting.into_iter().partition(|wait| node_of(shared, &wait.place) == node);
    let unsent = moved.into_iter().filter_map(|wait| {
        let sent = task(shared, level, &wait.place).try_send(wait);
        sent.err().map(mpsc::error::TrySendError::into_inner)
    });
    let unsent: Vec<Wait> = unsent.collect();
    own.into_iter().chain(unsent).collect()
}

/// Marks the partitions and waits for the marks, on one connection and in one round trip.
async fn round(
    shared: &Shared,
    connection: &mut Option<MultiplexedConnection>,
    level: Confirm,
    waiting: &[Wait],
) -> Result<Told, Error> {
    let (mut places, mut places_of) = (Vec::new(), Vec::with_capacity(waiting.len()));
    for wait in waiting {
        let known = places.iter().position(|place: &&Arc<Place>| Arc::ptr_eq(place, &wait.place));
        places_of.push(known.unwrap_or(places.len()));
        if known.is_none() {
            places.push(&wait.place);
        }
    }
    let calls: Vec<_> = places.iter().map(|place| shared.begin(&MARK, place, &[])).collect();
    let now = Instant::now();
    let first = waiting.iter().map(|wait| wait.until).min().unwrap_or(now);
    let patience = first.saturating_duration_since(now).clamp(Duration::from_millis(1), LONGEST);
    let mut pipeline = redis::pipe();
    for call in &calls {
        pipeline.add_command(call.cmd.clone());
    }
    pipeline.add_command(waiting_for(level, patience));
    let asking = async {
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let key = places.first().map(|place| place.keys.meta.as_str()).unwrap_or_default();
                connection.insert(shared.server.own(key).await?)
            }
        };
        match pipeline.query_async::<Vec<Value>>(connection).await {
            Err(error) if is_unknown_script(&error) => {
                MARK.load().query_async::<()>(connection).await?;
                pipeline.query_async(connection).await
            }
            answers => answers,
        }
    };
    let answers = tokio::time::timeout(patience + GRACE, asking).await.map_err(|_| unexpected())?;
    let mut answers = answers.map_err(|error| unavailable(&error))?;
    let reached = answers.pop().and_then(|answer| reached(level, answer)).ok_or_else(unexpected)?;
    let marked = calls.into_iter().zip(places).zip(answers);
    let marked = marked.map(|((call, place), answer)| Ok(shared.took(place, call, answer)?.view.lineage));
    let marked = marked.collect::<Result<Vec<u64>, Error>>()?;
    let lineages = places_of.into_iter().map(|at| marked.get(at).copied().unwrap_or_default()).collect();
    Ok(Told { lineages, reached })
}

fn waiting_for(level: Confirm, patience: Duration) -> redis::Cmd {
    let millis = patience.as_millis().to_string();
    let mut cmd = redis::Cmd::new();
    match level {
        Confirm::Replicated(replicas) => cmd.arg("WAIT").arg(replicas).arg(millis),
        // One's own disk, no replica's.
        Confirm::Fsynced | Confirm::Stored => cmd.arg("WAITAOF").arg(1).arg(0).arg(millis),
    };
    cmd
}

/// WAIT tells how many replicas have it, WAITAOF on how many disks it is: one's own, the replicas'.
fn reached(level: Confirm, answer: Value) -> Option<Confirm> {
    Some(match level {
        Confirm::Replicated(_) => match u64::from_redis_value(answer).ok()? {
            0 => Confirm::Stored,
            replicas => Confirm::Replicated(u8::try_from(replicas).unwrap_or(u8::MAX)),
        },
        Confirm::Fsynced | Confirm::Stored => match Vec::<u64>::from_redis_value(answer).ok()?.first()? {
            0 => Confirm::Stored,
            _ => Confirm::Fsynced,
        },
    })
}

/// Answers those whose wait is over; the others.
fn answer(waiting: Vec<Wait>, level: Confirm, told: Option<Told>) -> Vec<Wait> {
    let now = Instant::now();
    let mut left = Vec::new();
    for (at, wait) in waiting.into_iter().enumerate() {
        let same = told.as_ref().map(|told| told.lineages.get(at) == Some(&wait.lineage));
        let reached = told.as_ref().map_or(Confirm::Stored, |told| told.reached);
        let reached = match same {
            // Another server, or another history: nobody can tell any more who has it.
            Some(false) => Confirm::Stored,
            _ if reached.reaches(level) => level,
            _ if wait.until <= now => reached,
            _ => {
                left.extend((!wait.answer.is_closed()).then_some(wait));
                continue;
            }
        };
        // Whoever asked may have gone meanwhile.
        let _ = wait.answer.send(reached);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_what_the_server_tells() {
        use Confirm::{Fsynced, Replicated, Stored};
        let disks = |own, others| Value::Array(vec![Value::Int(own), Value::Int(others)]);
        for (level, answer, expected) in [
            (Replicated(2), Value::Int(0), Some(Stored)),
            (Replicated(2), Value::Int(1), Some(Replicated(1))),
            (Replicated(2), Value::Int(300), Some(Replicated(255))),
            (Fsynced, disks(0, 3), Some(Stored)),
            (Fsynced, disks(1, 0), Some(Fsynced)),
            (Fsynced, Value::Nil, None),
            (Replicated(1), Value::Okay, None),
        ] {
            assert_eq!(reached(level, answer), expected, "{level}");
        }
    }
}
