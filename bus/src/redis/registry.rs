//! The queues and groups there are: kept in two hashes, known to every node, looked at once a second. What a flush took
//! away is put back by whoever knew it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
    time::Duration,
};

use events::Name;
use parking_lot::RwLock;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    keys::Keys,
    script::{Script, WhenFull},
    server::Server,
};
use crate::{Error, Group, Mode, Overflow, Queue, policy::Policy};

static REPLACE: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/replace.lua"), WhenFull::Runs));

/// How often a change is begun again because others were first.
const ATTEMPTS: usize = 100;

#[derive(Default)]
pub(super) struct Registry {
    queues: RwLock<HashMap<Name, Arc<Queue>>>,
    groups: RwLock<BTreeMap<String, Arc<Group>>>,
}

/// A queue's settings as they are stored.
/// What an older version left out has its default.
#[derive(Serialize, Deserialize)]
struct StoredQueue {
    partitions: u32,
    max_age_ms: u64,
    max_bytes: Option<u64>,
    max_len: Option<u64>,
    #[serde(default)]
    overflow: Overflow,
    dedupe_ms: Option<u64>,
    #[serde(default)]
    latest: bool,
    #[serde(default)]
    realtime: bool,
    #[serde(default)]
    journal: bool,
}

/// A group's settings as they are stored. Where it began is only told: a group that is put back begins at the oldest event
/// that is kept.
#[derive(Serialize, Deserialize)]
struct StoredGroup {
    filter: String,
    mode: String,
    lease_ms: u64,
    #[serde(flatten)]
    policy: Policy,
}

/// What stands in the place of a group that was deleted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleted {
    /// Milliseconds since 1970.
    deleted: i64,
}

/// How long that is remembered: no node is away for so long, and goes on. Milliseconds.
const REMEMBERED: i64 = 86_400_000;

impl From<&Queue> for StoredQueue {
    fn from(queue: &Queue) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            partitions: queue.partitions,
            max_age_ms: millis(queue.max_age),
            max_bytes: queue.max_bytes,
            max_len: queue.max_len,
            overflow: queue.overflow,
            dedupe_ms: Some(millis(queue.dedupe)),
            latest: queue.latest,
            realtime: queue.realtime,
            journal: queue.journal,
        }
    }
}

impl Registry {
    /// A queue that this node has heard of.
    pub(super) fn queue(&self, name: &Name) -> Option<Arc<Queue>> {
        self.queues.read().get(name).cloned()
    }

    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        let mut queues: Vec<_> = self.queues.read().values().cloned().collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    /// A group that this node has heard of.
    pub(super) fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.read().get(name).cloned()
    }

    /// By name.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    /// The names of the groups on a queue.
    pub(super) fn each_group_on(&self, queue: &Name, mut each: impl FnMut(&String)) {
        self.groups.read().values().filter(|group| group.filter.queue == *queue).for_each(|group| each(&group.name));
    }

    /// A queue, by asking where this node hasn't heard of it.
    pub(super) async fn find_queue(
        &self,
        server: &Server,
        keys: &Keys,
        name: &Name,
    ) -> Result<Option<Arc<Queue>>, Error> {
        if let Some(queue) = self.queue(name) {
            return Ok(Some(queue));
        }
        self.ask_queue(server, keys, name).await
    }

    /// A queue as it is stored now.
    pub(super) async fn ask_queue(
        &self,
        server: &Server,
        keys: &Keys,
        name: &Name,
    ) -> Result<Option<Arc<Queue>>, Error> {
        let stored: Option<String> = server.ask(redis::cmd("HGET").arg(keys.queues()).arg(name.as_str())).await?;
        Ok(stored.and_then(|text| read_queue(name, &text)).map(|queue| self.know_queue(queue)))
    }

    /// A queue, which is made with the default settings if it isn't there.
    pub(super) async fn ensure_queue(&self, server: &Server, keys: &Keys, name: &Name) -> Result<Arc<Queue>, Error> {
        if let Some(queue) = self.find_queue(server, keys, name).await? {
            return Ok(queue);
        }
        self.put_queue(server, keys, &Queue::initial(name.clone()), false).await?;
        let known = self.find_queue(server, keys, name).await?;
        known.ok_or_else(|| Error::NoQueue(name.to_string()))
    }

    /// Stores a queue's settings; those that are stored already stay unless `replace`.
    pub(super) async fn put_queue(
        &self,
        server: &Server,
        keys: &Keys,
        queue: &Queue,
        replace: bool,
    ) -> Result<(), Error> {
        let text = json(&StoredQueue::from(queue))?;
        put(server, &keys.queues(), queue.name.as_str(), &text, replace).await?;
        if replace {
            self.know_queue(queue.clone());
        }
        Ok(())
    }

    /// A group, by asking where this node hasn't heard of it.
    pub(super) async fn find_group(
        &self,
        server: &Server,
        keys: &Keys,
        name: &str,
    ) -> Result<Option<Arc<Group>>, Error> {
        if let Some(group) = self.group(name) {
            return Ok(Some(group));
        }
        self.ask_group(server, keys, name).await
    }

    /// A group as it is stored now.
    pub(super) async fn ask_group(
        &self,
        server: &Server,
        keys: &Keys,
        name: &str,
    ) -> Result<Option<Arc<Group>>, Error> {
        let stored: Option<String> = server.ask(redis::cmd("HGET").arg(keys.groups()).arg(name)).await?;
        Ok(stored.and_then(|text| read_group(name, &text)).map(|group| self.know_group(group)))
    }

    /// Stores a group's settings in the place of those that are stored, unless these were declared later.
    pub(super) async fn change_group(&self, server: &Server, keys: &Keys, group: &Group) -> Result<(), Error> {
        let text = group_text(group)?;
        for _ in 0..ATTEMPTS {
            let stored: Option<String> = server.ask(redis::cmd("HGET").arg(keys.groups()).arg(&group.name)).await?;
            let known = stored.as_deref().and_then(|text| read_group(&group.name, text));
            if let Some(later) = known.filter(|known| known.revision > group.revision) {
                self.know_group(later);
                return Ok(());
            }
            let mut replace = REPLACE.call([keys.groups()].iter());
            replace.arg(&group.name).arg(stored.unwrap_or_default()).arg(&text);
            if server.call(&REPLACE, &replace).await? == Value::Int(1) {
                self.know_group(group.clone());
                return Ok(());
            }
        }
        Err(Error::Unavailable("too many others declare the group at once".to_owned()))
    }

    /// Stores a group's settings; those that are stored already stay unless `replace`.
    pub(super) async fn put_group(
        &self,
        server: &Server,
        keys: &Keys,
        group: &Group,
        replace: bool,
    ) -> Result<(), Error> {
        put(server, &keys.groups(), &group.name, &group_text(group)?, replace).await?;
        if replace {
            self.know_group(group.clone());
        }
        Ok(())
    }

    /// Puts a mark in a group's place, and forgets it here.
    pub(super) async fn mark_deleted(&self, server: &Server, keys: &Keys, name: &str, now: i64) -> Result<(), Error> {
        let mark = json(&Deleted { deleted: now })?;
        put(server, &keys.groups(), name, &mark, true).await?;
        self.groups.write().remove(name);
        Ok(())
    }

    /// Takes in what other nodes declared, and puts back what is no longer there. The groups that others deleted.
    pub(super) async fn refresh(&self, server: &Server, keys: &Keys, now: i64) -> Result<Vec<Arc<Group>>, Error> {
        let mut both = redis::pipe();
        both.hgetall(keys.queues()).hgetall(keys.groups());
        let (queues, groups): (HashMap<String, String>, HashMap<String, String>) = server.ask_all(&both).await?;
        let known = self.queues();
        for queue in known.iter().filter(|queue| !queues.contains_key(queue.name.as_str())) {
            tracing::warn!(queue = %queue.name, "the queue is not registered any more: it is registered again");
            self.put_queue(server, keys, queue, false).await?;
        }
        for group in self.groups().iter().filter(|group| !groups.contains_key(&group.name)) {
            tracing::warn!(group = group.name, "the group is not registered any more: it is registered again");
            self.put_group(server, keys, group, false).await?;
        }
        for (name, text) in &queues {
            if let Some(queue) = Name::new(name).ok().and_then(|name| read_queue(&name, text)) {
                self.know_queue(queue);
            }
        }
        let mut gone = Vec::new();
        for (name, text) in &groups {
            if let Some(group) = read_group(name, text) {
                self.know_group(group);
            } else if let Ok(Deleted { deleted }) = serde_json::from_str(text) {
                gone.extend(self.groups.write().remove(name));
                if now.saturating_sub(deleted) > REMEMBERED {
                    server.ask::<u64>(redis::cmd("HDEL").arg(keys.groups()).arg(name)).await?;
                }
            }
        }
        Ok(gone)
    }

    fn know_queue(&self, queue: Queue) -> Arc<Queue> {
        let queue = Arc::new(queue);
        self.queues.write().insert(queue.name.clone(), queue.clone());
        queue
    }

    fn know_group(&self, group: Group) -> Arc<Group> {
        let group = Arc::new(group);
        self.groups.write().insert(group.name.clone(), group.clone());
        group
    }
}

async fn put(server: &Server, hash: &str, name: &str, text: &str, replace: bool) -> Result<(), Error> {
    let put = if replace { "HSET" } else { "HSETNX" };
    server.ask(redis::cmd(put).arg(hash).arg(name).arg(text)).await
}

fn group_text(group: &Group) -> Result<String, Error> {
    let lease_ms = u64::try_from(group.lease.as_millis()).unwrap_or(u64::MAX);
    let mode = mode_name(group.mode).to_owned();
    json(&StoredGroup { filter: group.filter.to_string(), mode, lease_ms, policy: group.into() })
}

fn json(stored: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(stored).map_err(|error| Error::Invalid(error.to_string()))
}

fn read_queue(name: &Name, text: &str) -> Option<Queue> {
    let stored: StoredQueue = serde_json::from_str(text).ok()?;
    let default = Queue::new(name.clone());
    Some(Queue {
        partitions: stored.partitions.max(1),
        max_age: Duration::from_millis(stored.max_age_ms),
        max_bytes: stored.max_bytes,
        max_len: stored.max_len,
        overflow: stored.overflow,
        dedupe: stored.dedupe_ms.map_or(default.dedupe, Duration::from_millis),
        latest: stored.latest,
        realtime: stored.realtime,
        journal: stored.journal,
        name: default.name,
    })
}

fn read_group(name: &str, text: &str) -> Option<Group> {
    let stored: StoredGroup = serde_json::from_str(text).ok()?;
    let mode =
        [Mode::Parallel, Mode::Keyed, Mode::Exclusive].into_iter().find(|mode| mode_name(*mode) == stored.mode)?;
    let lease = Duration::from_millis(stored.lease_ms);
    Some(stored.policy.of(Group { lease, ..Group::new(name, stored.filter.parse().ok()?, mode) }))
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Parallel => "parallel",
        Mode::Keyed => "keyed",
        Mode::Exclusive => "exclusive",
    }
}
