//! I5: a keyed group hands out a key's events one at a time, in the order of their positions, whatever becomes of each;
//! an exclusive group so a partition's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Found,
    Invariant::I5,
    view::{Delivery, View},
};
use crate::history::{Action, Begins, Did, Mode, Seen, Settled, Verb, What};

/// Failures after which there is no more, and expiries.
const LAST_ATTEMPT: u32 = 9;
const CRASHES: usize = 3;

/// What orders: a key of a partition.
type Line<'a> = (usize, &'a str, u32, &'a str);

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let lines = lines(view);
    for (name, group) in view.groups.iter().filter(|(_, group)| group.mode != Mode::Parallel) {
        let ends = Ends::of(view, name);
        let mut begun: HashSet<&str> = HashSet::new();
        for (entry, event) in handed_out(view, name) {
            begun.insert(&event.id);
            let place = &event.place;
            let key = if group.mode == Mode::Keyed { event.key.as_str() } else { "" };
            let Some(era) = view.era(view.at(entry)) else { continue };
            let line = (era, place.queue.as_str(), place.partition, key);
            let before = lines.get(&line).into_iter().flatten().filter(|(position, _)| *position < place.position);
            for (_, other) in before {
                // A group that began later than that never had it.
                let concerns =
                    group.filter.takes(other.event) && (group.begins == Begins::Earliest || begun.contains(other.id));
                if concerns && !other.expires && !ends.ended(view, other.id, entry) {
                    let told = format!("{} came to {name} before {} of its line had ended", event.id, other.id);
                    found.add(I5, told, &[entry]);
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member<'a> {
    id: &'a str,
    event: &'a str,
    expires: bool,
}

/// Everything that is known to lie in a line, by its position; keys of one partition, and the partition as a whole.
fn lines<'a>(view: &View<'a>) -> BTreeMap<Line<'a>, BTreeSet<(u64, Member<'a>)>> {
    let sent: HashMap<&str, bool> =
        view.publishes.iter().flat_map(|publish| publish.sent).map(|sent| (sent.id.as_str(), sent.expires)).collect();
    let mut lines: BTreeMap<Line<'a>, BTreeSet<(u64, Member<'a>)>> = BTreeMap::new();
    let mut add = |entry, queue: &'a str, partition, key: &'a str, position, id: &'a str, event: &'a str| {
        let Some(era) = view.era(view.at(entry)) else { return };
        let member = Member { id, event, expires: sent.get(id).copied().unwrap_or(false) };
        lines.entry((era, queue, partition, key)).or_default().insert((position, member));
        lines.entry((era, queue, partition, "")).or_default().insert((position, member));
    };
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Delivered { event, .. } | What::Logged { event } = &entry.what {
            let Seen { id, event: name, key, place } = event;
            add(index, &place.queue, place.partition, key, place.position, id, name);
        }
    }
    for publish in &view.publishes {
        let Some((entry, answers)) = publish.answered else { continue };
        for (sent, answer) in publish.sent.iter().zip(answers) {
            if let crate::history::Answer::Recorded { partition, position: Some(position), duplicate: false } = answer {
                // What the faults took is not in line any more.
                let lost = view.may_be_lost(view.at(entry), u64::MAX, publish.level);
                if !lost {
                    add(entry, &sent.queue, *partition, &sent.key, *position, &sent.id, &sent.event);
                }
            }
        }
    }
    lines
}

/// What members were given, and what handlers began, in the order of the history. An exclusive group leases several to
/// its one member, who settles them in their order.
fn handed_out<'a>(view: &View<'a>, of: &str) -> Vec<(usize, &'a Seen)> {
    let exclusive = view.groups.get(of).is_some_and(|group| group.mode == Mode::Exclusive);
    let mut handed: Vec<(usize, &'a Seen)> = Vec::new();
    for delivery in view.deliveries.iter().filter(|delivery| delivery.group == of) {
        if exclusive {
            let acks = delivery.ends().filter(|end| *end.verb == Verb::Ack).map(|end| (end.asked, delivery.event));
            handed.extend(acks);
        } else {
            handed.push((delivery.entry, delivery.event));
        }
    }
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Handled { group, event, did: Did::Started, .. } = &entry.what
            && group == of
        {
            handed.push((index, event));
        }
    }
    handed.sort_by_key(|(entry, _)| *entry);
    handed
}

/// When events of a group ended, as far as it can be seen.
struct Ends<'a> {
    group: &'a str,
    effects: bool,
    /// By event: the entries that ended it, or may have.
    ended: HashMap<&'a str, Vec<usize>>,
    deliveries: HashMap<&'a str, Vec<&'a Delivery<'a>>>,
}

impl<'a> Ends<'a> {
    fn of(view: &'a View<'a>, group: &'a str) -> Self {
        let mut ends = Self {
            group,
            effects: view.groups.get(group).is_some_and(|group| group.effects),
            ended: HashMap::new(),
            deliveries: HashMap::new(),
        };
        for delivery in view.deliveries.iter().filter(|delivery| delivery.group == group) {
            ends.deliveries.entry(&delivery.event.id).or_default().push(delivery);
            for settlement in &delivery.settlements {
                let is_end = match settlement.verb {
                    Verb::Ack | Verb::Dead | Verb::Nack { retryable: false, .. } => true,
                    Verb::Nack { .. } => delivery.attempt >= LAST_ATTEMPT,
                    Verb::Release | Verb::Defer | Verb::Extend => false,
                };
                if is_end && settlement.settled != Settled::LeaseLost {
                    ends.ended.entry(&delivery.event.id).or_default().push(settlement.asked);
                }
            }
        }
        for (index, entry) in view.entries.iter().enumerate() {
            match &entry.what {
                What::Handled { group: of, event, did: Did::Done | Did::Repeated, .. } if of == group => {
                    ends.ended.entry(&event.id).or_default().push(index);
                }
                // A handler's letter died before it was seen in the audit; nobody saw when.
                What::Letter { group: of, event, .. } if of == group && ends.effects => {
                    ends.ended.entry(&event.id).or_default().push(0);
                }
                What::Stands { group: of, event, standing } if of == group && standing == "lost" => {
                    ends.ended.entry(&event.id).or_default().push(0);
                }
                _ => {}
            }
        }
        ends
    }

    fn ended(&self, view: &View<'_>, id: &str, before: usize) -> bool {
        let ended = self.ended.get(id).is_some_and(|ended| ended.iter().any(|entry| *entry < before));
        let deliveries = self.deliveries.get(id).map_or(&[][..], Vec::as_slice);
        let crashed = deliveries.iter().filter(|other| other.entry < before && other.ends().count() == 0).count();
        ended
            || crashed >= CRASHES
            || view.operated(self.group, Action::Seek, 0, view.at(before))
            || view.may_be_forgotten(0, view.at(before))
    }
}
