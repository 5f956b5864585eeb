//! Which events of the bus purge what, on every gateway that follows them.
//!
//! Each gateway follows each queue for itself from when it starts, as it has nothing kept before. Where events are missing,
//! and after the bus was away, everything is purged: what has changed meanwhile nobody knows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bus::{Gap, TailFrom};
use events::{Envelope, Filter, Name};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Mark, Section, Store,
    tags::{Tags, is_of_event},
};
use crate::{
    config::ConfigError,
    following::{After, Reader, Way, follow},
    metrics::METRICS,
};

/// A rule, compiled.
struct Rule {
    filter: Filter,
    tags: Tags,
}

/// Reads the rules of a section.
///
/// # Errors
/// What is wrong with them, each with its path in the file.
pub fn check(section: &Section) -> Vec<ConfigError> {
    rules(section).err().unwrap_or_default()
}

fn rules(section: &Section) -> Result<BTreeMap<Name, Vec<Rule>>, Vec<ConfigError>> {
    let (mut rules, mut errors) = (BTreeMap::<Name, Vec<Rule>>::new(), Vec::new());
    for (at, written) in section.purge.iter().enumerate() {
        let mut fault = |place: String, message: String| {
            errors.push(ConfigError::new(format!("cache.purge[{at}].{place}"), message));
        };
        let filter = written.filter.parse::<Filter>().map_err(|error| fault("filter".to_owned(), error.to_string()));
        if written.tags.is_empty() {
            fault("tags".to_owned(), "names none".to_owned());
        }
        match (filter, Tags::new(&written.tags)) {
            (_, Err(faults)) => faults.into_iter().for_each(|(at, message)| fault(format!("tags[{at}]"), message)),
            (Ok(filter), Ok(tags)) => {
                if let Some(name) = tags.variables().find(|name| !is_of_event(name)) {
                    let known = "collection, id, subject, queue, event, data.FIELD";
                    fault("tags".to_owned(), format!("an event has no `{{{name}}}`, only {known}"));
                }
                rules.entry(filter.queue.clone()).or_default().push(Rule { filter, tags });
            }
            (Err(()), _) => {}
        }
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// Begins to follow what the section names, until the store goes. Must be called on the shared runtime.
///
/// # Errors
/// What is wrong with the rules.
pub fn begin(
    section: &Section,
    way: Option<Way>,
    store: &Arc<Store>,
    stop: &CancellationToken,
) -> Result<(), Vec<ConfigError>> {
    let rules = rules(section)?;
    if rules.is_empty() {
        return Ok(());
    }
    let Some(way) = way else {
        tracing::warn!("cache.purge: there is no bus to follow; nothing is purged by events");
        return Ok(());
    };
    let queues: Vec<String> = rules.keys().map(ToString::to_string).collect();
    store.following.begin(queues.clone(), section.bus_away);
    let heard: Arc<Mutex<BTreeMap<Name, bool>>> =
        Arc::new(Mutex::new(rules.keys().map(|queue| (queue.clone(), false)).collect()));
    for (queue, rules) in rules {
        let purger = Purger { queue: queue.clone(), rules, store: Arc::downgrade(store), heard: Arc::clone(&heard) };
        let filter = Filter::all(queue);
        tokio::spawn(follow(way.clone(), filter, TailFrom::Latest, purger, stop.clone()));
    }
    Ok(())
}

struct Purger {
    queue: Name,
    rules: Vec<Rule>,
    store: Weak<Store>,
    /// Which queues are heard.
    heard: Arc<Mutex<BTreeMap<Name, bool>>>,
}

impl Purger {
    fn purge_all(&self, why: &str) {
        if let Some(store) = self.store.upgrade() {
            store.purge_all();
            METRICS.cache_purged("all");
            store.following.note(|standing| standing.gaps += 1);
            tracing::info!(queue = %self.queue, why, "everything that was kept is purged");
        }
    }
}

impl Reader for Purger {
    fn opened(&mut self) {
        self.purge_all("what came before is not known");
    }

    fn event(&mut self, envelope: &Envelope) {
        let Some(store) = self.store.upgrade() else { return };
        let rules = self.rules.iter().filter(|rule| rule.filter.matches(envelope));
        let made: Result<Vec<_>, _> = rules.map(|rule| rule.tags.of_event(envelope)).collect();
        let Ok(tags) = made.map(|tags| tags.concat()) else {
            self.purge_all("an event names more tags than are looked at one by one");
            return;
        };
        for tag in &tags {
            store.purge(Mark::of_tag(tag));
            METRICS.cache_purged("tag");
        }
        if !tags.is_empty() {
            store.following.note(|standing| standing.events += 1);
        }
    }

    fn caught_up(&mut self) {
        // Held until it is noted: what another queue loses meanwhile comes after it.
        let mut heard = self.heard.lock();
        heard.insert(self.queue.clone(), true);
        let all = heard.values().all(|heard| *heard);
        if let Some(store) = self.store.upgrade().filter(|_| all) {
            store.following.heard();
            METRICS.cache_followed(true);
        }
    }

    fn missing(&mut self, gap: &Gap) -> After {
        self.purge_all(&format!("events are missing: {:?}", gap.reason));
        After::GoOn
    }

    fn lost(&mut self, error: &str) {
        let mut heard = self.heard.lock();
        heard.insert(self.queue.clone(), false);
        let Some(store) = self.store.upgrade() else { return };
        if store.following.standing().error.is_none() {
            tracing::warn!(error, "the bus is away: what is tagged is given for a while yet");
        }
        store.following.lost(error);
        METRICS.cache_followed(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_rule_is_told_with_its_place() {
        let text = "{purge: [{filter: 'DB/*', tags: ['{collection}:{id}', '{data.a}']}, {filter: DB, tags: []}, \
                    {filter: 'DB/*', tags: ['{']}, {filter: 'DB/*', tags: ['{thing}']}]}";
        let section: Section = serde_saphyr::from_str(text).unwrap();
        let places: Vec<_> = check(&section).into_iter().map(|error| error.path).collect();
        assert_eq!(
            places,
            ["cache.purge[1].filter", "cache.purge[1].tags", "cache.purge[2].tags[0]", "cache.purge[3].tags"]
        );
    }
}
