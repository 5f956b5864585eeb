//! I3: in the end everything is settled, for every group: acknowledged, dead, filtered, expired or lost.

use std::collections::HashSet;

use super::{Found, Invariant::I3, view::View};
use crate::history::{Action, Begins, Did, Settled, Verb, What};

/// Standings of what is still to be done.
const OPEN: [&str; 4] = ["pending", "leased", "retrying", "parked"];

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    if !view.entries.iter().any(|entry| entry.what == What::Rest) {
        return;
    }
    for ((group, id), (entry, standing)) in &view.standings {
        if OPEN.contains(standing) {
            found.add(I3, format!("{id} is still {standing} for {group}"), &[*entry]);
        }
        let may_be_lost = view.operated("", Action::Drop, 0, u64::MAX) || view.may_be_forgotten(0, u64::MAX);
        if *standing == "lost" && !may_be_lost {
            found.add(I3, format!("{group} lost {id}, which nothing allowed"), &[*entry]);
        }
    }
    vanished(view, found);
}

/// What was trimmed, every group that was there before it had settled.
fn vanished(view: &View<'_>, found: &mut Found) {
    let mut had: HashSet<(&str, &str)> = HashSet::new();
    for entry in view.entries {
        if let What::Handled { group, event, did: Did::Done | Did::Repeated, .. } = &entry.what {
            had.insert((group, &event.id));
        }
    }
    for delivery in &view.deliveries {
        let over = |verb: &Verb| matches!(verb, Verb::Ack | Verb::Dead | Verb::Nack { .. });
        if delivery.ends().any(|end| over(end.verb) && end.settled != Settled::LeaseLost) {
            had.insert((delivery.group, &delivery.event.id));
        }
    }
    for recorded in view.recorded().filter(|recorded| !recorded.sent.expires) {
        let at = view.at(recorded.entry);
        for (name, group) in &view.groups {
            let concerns = group.queue == recorded.sent.queue
                && group.begins == Begins::Earliest
                && view.at(group.entry) <= view.at(recorded.asked)
                && group.filter.takes(&recorded.sent.event);
            if !concerns || had.contains(&(*name, recorded.sent.id.as_str())) {
                continue;
            }
            let Some((entry, "unknown")) = view.standings.get(&(*name, recorded.sent.id.as_str())) else { continue };
            let excused = view.may_be_forgotten(at, u64::MAX) || view.operated(name, Action::Seek, 0, u64::MAX);
            if !excused {
                let told = format!("{} was trimmed before {name} had settled it", recorded.sent.id);
                found.add(I3, told, &[recorded.entry, *entry]);
            }
        }
    }
}
