//! I1: nothing confirmed is missing; nothing counts as acknowledged whose effect never was.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Found, Invariant::I1, view::View};
use crate::history::{Action, Did, Settled, Verb, What};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    missing(view, found);
    acked_for_nothing(view, found);
}

/// What was confirmed is in the log, or was trimmed from it, or lost by a fault that may do so.
fn missing(view: &View<'_>, found: &mut Found) {
    let mut logged: HashMap<(&str, &str), usize> = HashMap::new();
    for (place, (entry, event)) in &view.log {
        logged.insert((&place.queue, &event.id), *entry);
    }
    let end = view.entries.last().map_or(0, |entry| entry.at);
    // What was lost and published again counts by its last confirmation.
    let mut last = BTreeMap::new();
    for recorded in view.recorded() {
        last.insert((recorded.sent.queue.as_str(), recorded.sent.id.as_str()), recorded);
    }
    for ((queue, id), recorded) in last {
        let Some((floor, _)) = view.heads.get(&(queue, recorded.place.partition)) else { continue };
        if recorded.place.position < *floor || logged.contains_key(&(queue, id)) {
            continue;
        }
        if !view.may_be_lost(view.at(recorded.entry), end, recorded.level) {
            let told = format!("{id} was confirmed at {:?} and is not in the log", recorded.place);
            found.add(I1, told, &[recorded.entry]);
        }
    }
}

/// Where an event stands as acknowledged, somebody did it.
fn acked_for_nothing(view: &View<'_>, found: &mut Found) {
    let mut done: HashSet<(&str, &str)> = HashSet::new();
    for entry in view.entries {
        if let What::Handled { group, event, did: Did::Done | Did::Repeated, .. } = &entry.what {
            done.insert((group, &event.id));
        }
    }
    for delivery in &view.deliveries {
        let acked = |settlement: &super::view::Settlement<'_>| {
            *settlement.verb == Verb::Ack && settlement.settled != Settled::LeaseLost
        };
        let acks = !view.groups.get(delivery.group).is_some_and(|group| group.effects);
        if acks && delivery.settlements.iter().any(acked) {
            done.insert((delivery.group, &delivery.event.id));
        }
    }
    for ((group, id), (entry, standing)) in &view.standings {
        let excused = [Action::Discard, Action::Seek].iter().any(|action| view.operated(group, *action, 0, u64::MAX));
        if *standing == "acked" && !done.contains(&(group, id)) && !excused && !view.may_be_forgotten(0, u64::MAX) {
            found.add(I1, format!("{id} counts as acknowledged for {group}, and nobody did it"), &[*entry]);
        }
    }
}
