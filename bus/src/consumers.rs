//! Consuming several queues under one name: a group a queue, and with `*` also one for each queue that comes into being.
//!
//! The group of the first queue that is named is called as the whole, that of every other one `<name>.<QUEUE>` (no queue has
//! a dot in its name). A group that is there already keeps its queue, whatever the order of the patterns is now; also one
//! that is called `<name>-<QUEUE>`, as they were before. The queues that the bus itself writes are only taken where they are
//! named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use events::{Filter, Name, Pattern};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Consumer, Delivery, Error, Failure, Group, GroupStatus, Handler, Mode, group::NAME_BYTES, publish};

/// New queues are joined within a second.
const LOOK: Duration = Duration::from_millis(500);
/// The most queues that are joined.
const MOST: usize = 1000;
/// What `*` doesn't take.
const SET_APART: [&str; 4] = ["SYS", "PRESENCE", "RECEIPT", "ROOMS"];

/// Members of one group a queue, with one handler.
pub struct Consumers {
    bus: Bus,
    name: String,
    patterns: Arc<[Pattern]>,
    mode: Mode,
    each: Box<dyn Fn(Group) -> Group + Send + Sync>,
    handler: Arc<dyn Handler>,
    sifts: bool,
    role: Option<&'static str>,
}

impl Consumers {
    /// The handler gets what any of the patterns takes.
    pub fn new(bus: Bus, name: &str, patterns: Vec<Pattern>, mode: Mode, handler: Arc<dyn Handler>) -> Self {
        let each = Box::new(|group| group);
        Self { bus, name: name.to_owned(), patterns: patterns.into(), mode, each, handler, sifts: true, role: None }
    }

    /// The handler also gets what the groups' filters take and none of the patterns does: it passes that over itself.
    #[must_use]
    pub fn unsifted(self) -> Self {
        Self { sifts: false, ..self }
    }

    /// Changes what each of the groups declares.
    #[must_use]
    pub fn each(mut self, change: impl Fn(Group) -> Group + Send + Sync + 'static) -> Self {
        self.each = Box::new(change);
        self
    }

    /// The role that they work for, as traces tell it: `logger`.
    #[must_use]
    pub fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// The groups of the queues that are named, and of those that are there.
    ///
    /// # Errors
    /// If the bus is away.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        let queues = self.queues().await?;
        let known = self.bus.groups().await?;
        Ok(queues.iter().filter_map(|queue| self.group(queue, &known)).collect())
    }

    /// Works until `drain`, then finishes what it has until `drop`, as [`Consumer::run`] does. Survives a bus that is away.
    ///
    /// # Errors
    /// If the groups' settings are refused.
    pub async fn run(self, drain: CancellationToken, drop: CancellationToken) -> anyhow::Result<()> {
        let handler: Arc<dyn Handler> = match self.sifts {
            true => Arc::new(Selected { patterns: self.patterns.clone(), handler: self.handler.clone() }),
            false => self.handler.clone(),
        };
        let mut joined = BTreeSet::new();
        let mut members = JoinSet::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !drain.is_cancelled() {
            tokio::select! {
                () = drain.cancelled() => {}
                Some(ended) = members.join_next() => self.ended(ended?, &mut joined)?,
                _ = look.tick(), if self.looks(&joined) => {
                    for group in self.unjoined(&mut joined).await {
                        let queue = group.filter.queue.clone();
                        let mut consumer = Consumer::new(self.bus.clone(), group, handler.clone());
                        if let Some(role) = self.role {
                            consumer = consumer.role(role);
                        }
                        let (drain, drop) = (drain.clone(), drop.clone());
                        members.spawn(async move { (queue, consumer.run(drain, drop).await) });
                    }
                }
            }
        }
        while let Some(ended) = members.join_next().await {
            ended?.1?;
        }
        Ok(())
    }

    /// Whether there may be queues to join.
    fn looks(&self, joined: &BTreeSet<Name>) -> bool {
        self.patterns.iter().any(|pattern| pattern.queue.as_ref().is_none_or(|queue| !joined.contains(queue)))
    }

    /// The groups of queues that aren't joined yet, which they are from now on.
    async fn unjoined(&self, joined: &mut BTreeSet<Name>) -> Vec<Group> {
        let found = async {
            let mut queues = self.queues().await?;
            queues.retain(|queue| !joined.contains(queue));
            let known = if queues.is_empty() { Vec::new() } else { self.bus.groups().await? };
            Ok::<_, Error>((queues, known))
        };
        let (queues, known) = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(name = self.name, %error, "the queues can't be listed now");
                return Vec::new();
            }
        };
        let mut groups = Vec::new();
        for queue in queues {
            if joined.len() == MOST {
                tracing::error!(name = self.name, %queue, "more queues than {MOST} are not joined");
                break;
            }
            groups.extend(self.group(&queue, &known));
            joined.insert(queue);
        }
        groups
    }

    /// A member ended before it was told to.
    fn ended(&self, ended: (Name, anyhow::Result<()>), joined: &mut BTreeSet<Name>) -> anyhow::Result<()> {
        let (queue, worked) = ended;
        match worked {
            Err(error) if matches!(error.downcast_ref(), Some(Error::Conflict(_))) => {
                // Another process gave the group's name to another queue meanwhile: there is a name for this one.
                tracing::warn!(name = self.name, %queue, %error, "the queue is joined again");
                joined.remove(&queue);
                Ok(())
            }
            worked => worked,
        }
    }

    /// The queues to read.
    async fn queues(&self) -> Result<BTreeSet<Name>, Error> {
        let mut queues: BTreeSet<Name> = self.patterns.iter().filter_map(|pattern| pattern.queue.clone()).collect();
        if self.patterns.iter().any(|pattern| pattern.queue.is_none()) {
            let there = self.bus.queues().await?.into_iter().map(|queue| queue.settings.name);
            queues.extend(there.filter(|queue| !SET_APART.contains(&queue.as_str())));
        }
        Ok(queues)
    }

    fn group(&self, queue: &Name, known: &[GroupStatus]) -> Option<Group> {
        let known: BTreeMap<&str, &Name> =
            known.iter().map(|group| (group.name.as_str(), &group.filter.queue)).collect();
        let named = self.patterns.iter().find_map(|pattern| pattern.queue.as_ref());
        let name = name(&self.name, queue, named == Some(queue), &known);
        Some((self.each)(Group::new(&name, filter(&self.patterns, queue)?, self.mode)))
    }
}

/// What the group of a queue is called. `known`: the groups there are, and their queues.
fn name(name: &str, queue: &Name, is_first: bool, known: &BTreeMap<&str, &Name>) -> String {
    let names = [name.to_owned(), format!("{name}-{queue}"), own_name(name, queue)];
    if let Some(there) = names.iter().find(|name| known.get(name.as_str()).is_some_and(|of| *of == queue)) {
        return there.clone();
    }
    let [whole, _, own] = names;
    if is_first && !known.contains_key(name) { whole } else { own }
}

/// That of a queue that isn't the first.
fn own_name(name: &str, queue: &Name) -> String {
    let own = format!("{name}.{queue}");
    if own.len() <= NAME_BYTES {
        return own;
    }
    // A digest makes up for what doesn't fit.
    let digest = format!("-{:016x}", publish::hash(queue.as_str()));
    let room = NAME_BYTES.saturating_sub(name.len() + 1 + digest.len());
    format!("{name}.{}{digest}", &queue.as_str()[..room.min(queue.as_str().len())])
}

/// What the patterns take of a queue; maybe more, where they differ in their conditions.
fn filter(patterns: &[Pattern], queue: &Name) -> Option<Filter> {
    let is_apart = SET_APART.contains(&queue.as_str());
    let on = patterns.iter().filter(|pattern| pattern.queue.is_some() || !is_apart);
    on.filter_map(|pattern| pattern.on(queue)).reduce(|mut all, filter| {
        all.widen(&filter);
        all
    })
}

/// Passes on what one of the patterns takes: a group's filter may be wider.
struct Selected {
    patterns: Arc<[Pattern]>,
    handler: Arc<dyn Handler>,
}

#[async_trait]
impl Handler for Selected {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        match self.patterns.iter().any(|pattern| pattern.matches(&delivery.envelope)) {
            true => self.handler.handle(delivery).await,
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    #[test]
    fn a_group_that_is_there_keeps_its_queue_and_its_name() {
        let [db, invoices, notes] = ["DB", "INVOICES", "NOTES"].map(queue);
        let none = BTreeMap::new();
        assert_eq!(name("logger", &db, true, &none), "logger");
        assert_eq!(name("logger", &invoices, false, &none), "logger.INVOICES");
        let before = BTreeMap::from([("logger", &db), ("logger-INVOICES", &invoices)]);
        for first in [false, true] {
            assert_eq!(name("logger", &db, first, &before), "logger");
            assert_eq!(name("logger", &invoices, first, &before), "logger-INVOICES");
            assert_eq!(name("logger", &notes, first, &before), "logger.NOTES");
        }
        // What was first once is gone; the other one's place isn't.
        let after = BTreeMap::from([("logger.NOTES", &notes)]);
        assert_eq!(name("logger", &notes, true, &after), "logger.NOTES");
        assert_eq!(name("logger", &db, true, &after), "logger");
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_its_own() {
        let long = |last: &str| queue(&format!("{}{last}", "Q".repeat(63)));
        let names = [long("A"), long("B")].map(|queue| name("notifier", &queue, false, &BTreeMap::new()));
        assert!(names.iter().all(|name| name.len() == NAME_BYTES && name.starts_with("notifier.QQQ")), "{names:?}");
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn what_the_bus_writes_is_taken_where_it_is_named() {
        let patterns = |text: &str| Pattern::list(text).unwrap();
        for apart in SET_APART {
            assert_eq!(filter(&patterns("*/*"), &queue(apart)), None, "{apart}");
        }
        let named = filter(&patterns("*/*,SYS/DEAD_LETTER"), &queue("SYS")).unwrap();
        assert_eq!(named.to_string(), "SYS/DEAD_LETTER");
        let both = filter(&patterns("*/A,DB/B"), &queue("DB")).unwrap();
        assert_eq!(both.to_string(), "DB/{A,B}");
        assert_eq!(filter(&patterns("DB/*"), &queue("ORDERS")), None);
    }
}
