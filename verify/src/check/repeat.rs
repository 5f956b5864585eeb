//! I6: nothing comes twice without a reason: no event is in the log twice, delivered after its acknowledgement, or done
//! again, unless something broke or somebody asked for it.

use std::collections::HashMap;

use super::{Found, Invariant::I6, view::View};
use crate::history::{Action, Did, Harm, Settled, Verb, What};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    twice_in_the_log(view, found);
    after_its_ack(view, found);
    done_again(view, found);
}

fn twice_in_the_log(view: &View<'_>, found: &mut Found) {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for (place, (entry, event)) in &view.log {
        if let Some(before) = places.insert((&place.queue, &event.id), *entry)
            && !view.may_be_forgotten(0, u64::MAX)
        {
            found.add(I6, format!("{} is in the log twice", event.id), &[before, *entry]);
        }
    }
}

fn after_its_ack(view: &View<'_>, found: &mut Found) {
    for deliveries in view.by_event().values() {
        for (number, delivery) in deliveries.iter().enumerate() {
            let acked =
                |end: &&super::view::Settlement<'_>| matches!(end.verb, Verb::Ack) && end.settled == Settled::Done;
            let Some(ack) = delivery.ends().find(acked) else { continue };
            let Some(answered) = ack.answered else { continue };
            for later in &deliveries[number + 1..] {
                // A claim that was under way when the ack came may have been earlier.
                let after = later.asked > view.at(answered);
                let (from, to) = (view.at(ack.asked), view.at(later.entry));
                let excused = view.may_be_forgotten(from, to) || view.operated(delivery.group, Action::Seek, from, to);
                if after && !excused {
                    let told = format!("{} came to {} again after its ack", delivery.event.id, delivery.group);
                    found.add(I6, told, &[delivery.entry, answered, later.entry]);
                }
            }
        }
    }
}

fn done_again(view: &View<'_>, found: &mut Found) {
    let mut done: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        let What::Handled { group, event, did: Did::Done, .. } = &entry.what else { continue };
        let Some(before) = done.insert((group, &event.id), index) else { continue };
        let (from, to) = (view.at(before), view.at(index));
        let excused = view.may_be_forgotten(from, to)
            || view.operated(group, Action::Seek, from, to)
            || view.faults(from, to).any(|fault| {
                matches!(fault.harm, Harm::Outage | Harm::Restart | Harm::Member { .. } | Harm::Clock { .. })
            });
        if !excused {
            found.add(I6, format!("{} was done twice for {group}", event.id), &[before, index]);
        }
    }
}
