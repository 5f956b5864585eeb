//! I4: one valid token a delivery at a time; what is stale settles nothing.

use std::collections::HashMap;

use super::{
    Found,
    Invariant::I4,
    view::{Delivery, SLACK, View},
};
use crate::history::{Action, Harm, Mode, Settled, Verb};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut tokens: HashMap<(&str, &str), usize> = HashMap::new();
    for delivery in &view.deliveries {
        if let Some(before) = tokens.insert((delivery.group, delivery.token), delivery.entry) {
            found.add(I4, format!("the token {} was given twice", delivery.token), &[before, delivery.entry]);
        }
        once(view, delivery, found);
        in_time(view, delivery, found);
    }
    for deliveries in view.by_event().values() {
        // Of what was over when it was seen, by somebody who stood still meanwhile, nobody knows when it was given.
        let over = |delivery: &&&Delivery<'_>| {
            let lease = view.groups.get(delivery.group).map_or(u64::MAX, |group| group.lease);
            view.at(delivery.entry) >= delivery.asked.saturating_add(lease)
        };
        let seen: Vec<_> = deliveries.iter().filter(|delivery| !over(delivery)).copied().collect();
        for pair in seen.windows(2) {
            let &[first, second] = pair else { continue };
            if !may_come_again(view, first, second) {
                let told = format!("{} was handed out again while its lease held", first.event.id);
                found.add(I4, told, &[first.entry, second.entry]);
            }
            stale(view, first, second, found);
        }
    }
}

/// A lease is settled once.
fn once(view: &View<'_>, delivery: &Delivery<'_>, found: &mut Found) {
    let mut done = delivery.ends().filter(|end| end.settled == Settled::Done);
    if let (Some(first), Some(second)) = (done.next(), done.next())
        && !view.may_be_forgotten(view.at(first.asked), view.at(second.asked))
    {
        let told = format!("{} was settled twice by one token", delivery.event.id);
        found.add(I4, told, &[delivery.entry, first.asked, second.asked]);
    }
}

/// A lease that is over settles nothing, whether or not somebody else has the event by now.
fn in_time(view: &View<'_>, delivery: &Delivery<'_>, found: &mut Found) {
    let Some(group) = view.groups.get(delivery.group) else { return };
    let over = delivery.lease_must_end(view, group.lease).saturating_add(SLACK);
    for settlement in delivery.settlements.iter().filter(|settlement| settlement.settled == Settled::Done) {
        let asked = view.at(settlement.asked);
        // Whoever is cut off, or whose clock steps, knows the time of before.
        let excused =
            view.faults(0, asked).any(|fault| matches!(fault.harm, Harm::Clock { .. } | Harm::Outage | Harm::Restart));
        if asked > over && *settlement.verb != Verb::Extend && !excused {
            let told = format!("{} was settled after its lease's end", delivery.event.id);
            found.add(I4, told, &[delivery.entry, settlement.asked]);
        }
    }
}

/// Whether something ended the first lease before the second one was given.
fn may_come_again(view: &View<'_>, first: &Delivery<'_>, second: &Delivery<'_>) -> bool {
    let Some(group) = view.groups.get(first.group) else { return true };
    let (from, to) = (first.asked, view.at(second.entry));
    let ended = first.ends().any(|end| end.asked < second.entry)
        || to + SLACK >= first.lease_may_end(view, group.lease)
        || view.operated(first.group, Action::Seek, from, to)
        || view.operated(first.group, Action::Redrive, from, to)
        || view.may_be_forgotten(from, to)
        || view.faults(from, to).any(|fault| matches!(fault.harm, Harm::Restart | Harm::Clock { .. }));
    // What an exclusive group leased behind an event that comes again is given back with it.
    ended || (group.mode == Mode::Exclusive && given_back_before(view, first, second, group.lease))
}

fn given_back_before(view: &View<'_>, first: &Delivery<'_>, second: &Delivery<'_>, lease: u64) -> bool {
    let place = &first.event.place;
    view.deliveries.iter().any(|other| {
        let before = &other.event.place;
        let lower = other.group == first.group
            && (&before.queue, before.partition) == (&place.queue, place.partition)
            && before.position < place.position;
        lower
            && other.entry < second.entry
            && (other.ends().any(|end| *end.verb != Verb::Ack && (first.entry..second.entry).contains(&end.asked))
                || (first.asked..=view.at(second.entry) + SLACK).contains(&other.lease_may_end(view, lease)))
    })
}

/// Once an event is somebody else's, its old token settles nothing.
fn stale(view: &View<'_>, first: &Delivery<'_>, second: &Delivery<'_>, found: &mut Found) {
    for settlement in &first.settlements {
        if settlement.settled == Settled::Done
            && settlement.asked > second.entry
            && !view.may_be_forgotten(first.asked, view.at(settlement.asked))
        {
            let told = format!("{} was settled by a stale token", first.event.id);
            found.add(I4, told, &[first.entry, second.entry, settlement.asked]);
        }
    }
}
