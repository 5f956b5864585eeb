//! What the bus tells of itself, in the queue `SYS`. Scripts leave it in the partition that it is about, with what caused it
//! and whole or not at all; since they can't write to another slot, one node carries it over, every second. Its ids are
//! made of where it was left, so that what is carried twice comes once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use events::{Envelope, Name};
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{publish, queue, server::unexpected, shared::Shared};
use crate::{Error, PublishOptions, Recorded, clock::moment, sys};

const PAUSE: Duration = Duration::from_secs(1);
/// How long a node carries that says nothing any more, in milliseconds.
const LEASE: u64 = 5_000;
/// What is carried from a partition at a time.
const PIECE: isize = 64;
/// What the ids are made in.
const IDS: Uuid = Uuid::from_u128(0x2b0c_7d35_4e61_4f0a_8a57_1f0d_93be_6c44);

/// What a script left.
#[derive(Deserialize)]
struct Left {
    /// It is the so manieth of its partition, under this lineage.
    n: u64,
    lineage: String,
    /// Milliseconds since 1970.
    at: i64,
    event: String,
    data: Value,
}

/// What was left, and where.
struct Found {
    queue: Name,
    partition: u32,
    text: String,
    left: Left,
}

/// A partition whose log began anew, as this node saw it.
pub(super) struct Reset {
    pub(super) queue: Name,
    pub(super) partition: u32,
    /// The one that began.
    pub(super) lineage: u64,
    pub(super) at: i64,
}

/// Carries until the bus is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.closed.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(Err(error)) = shared.closed.run_until_cancelled(carry(&shared)).await {
            tracing::debug!(%error, "what the bus tells of itself waits");
        }
    }
    // Another node needn't wait for the lease's end.
    let key = shared.keys().mover();
    if matches!(leads(&shared).await, Ok(true)) {
        let _: Result<(), Error> = shared.server.ask(redis::cmd("DEL").arg(&key)).await;
    }
}

/// Tells what this node saw, and carries what scripts left, if it is this node that does.
pub(super) async fn carry(shared: &Arc<Shared>) -> Result<(), Error> {
    tell_resets(shared).await?;
    if !leads(shared).await? {
        return Ok(());
    }
    let mut dead: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for found in find(shared).await? {
        match found.left.data["group"].as_str() {
            Some(group) if found.left.event == "DEAD_LETTER" => {
                dead.entry(group.to_owned()).or_default().push(found);
            }
            Some(group) if found.left.event == "GROUP_ABANDONED" => miss(shared, group, &found).await?,
            _ => {
                if let Some(envelope) = found.envelope() {
                    publish(shared, envelope).await?;
                }
                forget(shared, &found).await?;
            }
        }
    }
    for (group, found) in dead {
        mourn(shared, &group, found).await?;
    }
    Ok(())
}

/// Whether this node is the one that carries. Should two think so, what both carry comes once.
async fn leads(shared: &Shared) -> Result<bool, Error> {
    let (key, node) = (shared.keys().mover(), shared.roster.node());
    let set = |when: &str| {
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(node).arg(when).arg("PX").arg(LEASE);
        set
    };
    let taken: Option<String> = shared.server.ask(&set("NX")).await?;
    if taken.is_some() {
        return Ok(true);
    }
    let leader: Option<String> = shared.server.ask(redis::cmd("GET").arg(&key)).await?;
    if leader.as_deref() != Some(node) {
        return Ok(false);
    }
    shared.server.ask::<Option<String>>(&set("XX")).await?;
    Ok(true)
}

/// Some of what was left in each partition, oldest first.
async fn find(shared: &Shared) -> Result<Vec<Found>, Error> {
    let queues = shared.queues();
    let places = queues.iter().flat_map(|queue| (0..queue.partitions).map(|number| shared.place(&queue.name, number)));
    let listed = try_join_all(places.map(|place| async move {
        let mut list = redis::cmd("LRANGE");
        list.arg(&place.keys.effects).arg(0).arg(PIECE - 1);
        let texts: Vec<String> = shared.server.ask(&list).await?;
        Ok::<_, Error>((place, texts))
    }));
    let mut found = Vec::new();
    for (place, texts) in listed.await? {
        for text in texts {
            let (queue, partition) = (place.queue.clone(), place.partition);
            match serde_json::from_str(&text) {
                Ok(left) => found.push(Found { queue, partition, text, left }),
                Err(error) => {
                    tracing::error!(%queue, partition, %error, "what a script left can't be read");
                    remove(shared, &queue, partition, &text).await?;
                }
            }
        }
    }
    Ok(found)
}

/// Tells of a group's dead letters, all partitions' together, unless it was told lately: then they wait.
async fn mourn(shared: &Arc<Shared>, group: &str, found: Vec<Found>) -> Result<(), Error> {
    let (key, now) = (shared.keys().mourned(), shared.now());
    let told: Option<i64> = shared.server.ask(redis::cmd("HGET").arg(&key).arg(group)).await?;
    let Some(first) = found.first().filter(|_| told.is_none_or(|told| now - told >= sys::RARELY)) else {
        return Ok(());
    };
    let sum = |field: &str| found.iter().filter_map(|found| found.left.data[field].as_u64()).sum::<u64>();
    let data = json!({ "group": group, "queue": first.queue, "count": sum("count"), "dead": sum("dead") });
    let at = moment(first.left.at);
    if publish(shared, sys::envelope(&sys::name("DEAD_LETTER"), &first.id(), at, data)).await?.duplicate {
        // Whoever told it didn't come to forget it; what was left since then is not in it.
        return forget(shared, first).await;
    }
    shared.server.ask::<i64>(redis::cmd("HSET").arg(&key).arg(group).arg(now)).await?;
    for found in &found {
        forget(shared, found).await?;
    }
    Ok(())
}

/// Tells that a group lost its hold, unless that was told of another partition and nobody has claimed since.
async fn miss(shared: &Arc<Shared>, group: &str, found: &Found) -> Result<(), Error> {
    let key = shared.keys().abandoned();
    let told: Option<i64> = shared.server.ask(redis::cmd("HGET").arg(&key).arg(group)).await?;
    let claimed = found.left.data["claimed"].as_i64();
    let is_told = told.zip(claimed).is_some_and(|(told, claimed)| claimed <= told);
    if let Some(envelope) = found.envelope().filter(|_| !is_told) {
        publish(shared, envelope).await?;
        shared.server.ask::<i64>(redis::cmd("HSET").arg(&key).arg(group).arg(found.left.at)).await?;
    }
    forget(shared, found).await
}

/// Every node that knew the log tells that it began anew; a flush leaves nobody else who could. It comes once all the same.
async fn tell_resets(shared: &Arc<Shared>) -> Result<(), Error> {
    loop {
        let reset = shared.resets.lock().pop_front();
        let Some(reset) = reset else { return Ok(()) };
        let Reset { queue, partition, lineage, at } = &reset;
        let id = id(&format!("{queue}/{partition}/{lineage}/reset"));
        let data = json!({ "queue": queue, "partition": partition, "lineage": format!("{lineage:016x}") });
        if let Err(error) = publish(shared, sys::envelope(&sys::name("LOG_RESET"), &id, moment(*at), data)).await {
            shared.resets.lock().push_front(reset);
            return Err(error);
        }
    }
}

async fn publish(shared: &Arc<Shared>, envelope: Envelope) -> Result<Recorded, Error> {
    if shared.find_queue(&envelope.queue).await?.is_none() {
        queue::declare(shared, sys::queue()).await?;
    }
    let mut outcomes = publish::publish(shared, vec![envelope], PublishOptions::default()).await?;
    match outcomes.pop() {
        Some(Ok(recorded)) => Ok(recorded),
        Some(Err(refused)) => Err(Error::Unavailable(refused.to_string())),
        None => Err(unexpected()),
    }
}

async fn forget(shared: &Shared, found: &Found) -> Result<(), Error> {
    remove(shared, &found.queue, found.partition, &found.text).await
}

async fn remove(shared: &Shared, queue: &Name, partition: u32, text: &str) -> Result<(), Error> {
    let mut remove = redis::cmd("LREM");
    remove.arg(&shared.place(queue, partition).keys.effects).arg(1).arg(text);
    shared.server.ask::<i64>(&remove).await.map(drop)
}

fn id(of: &str) -> String {
    Uuid::new_v5(&IDS, of.as_bytes()).to_string()
}

impl Found {
    fn id(&self) -> String {
        id(&format!("{}/{}/{}/{}", self.queue, self.partition, self.left.lineage, self.left.n))
    }

    fn envelope(&self) -> Option<Envelope> {
        let event = Name::new(&self.left.event).ok()?;
        let mut data = self.left.data.clone();
        if let Some(data) = data.as_object_mut() {
            // Only told to us: it says which absence it was.
            data.remove("claimed");
        }
        data["queue"] = json!(self.queue);
        data["partition"] = json!(self.partition);
        Some(sys::envelope(&event, &self.id(), moment(self.left.at), data))
    }
}
