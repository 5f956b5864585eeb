//! What is for later comes at its time and not before (I8), in the order of the times (I2), and whole (I1), unless it was
//! taken back: then it never comes (I2).

use std::collections::{BTreeMap, HashMap};

use super::{
    Found,
    Invariant::{I1, I2, I8},
    view::{SLACK, View},
};
use crate::history::{Answer, Frame, Harm, Level, Seen, What};

/// Times are told to the millisecond.
const TICK: u64 = 1_000;

/// An event that was confirmed as one for later.
struct Later<'a> {
    queue: &'a str,
    id: &'a str,
    due: u64,
    level: Level,
    partition: u32,
    asked: usize,
    answered: usize,
    /// Its place in its publish.
    nth: usize,
    /// Somebody asked more than once: nobody can tell which time it came.
    again: bool,
}

/// Its entry in the log, and its position.
type Lies<'a, 'b> = (&'b Later<'a>, usize, u64);

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let laters = laters(view);
    let taken_back = taken_back(view, &laters, found);
    too_early(view, found);
    if !view.entries.iter().any(|entry| entry.what == What::Rest) {
        return;
    }
    let mut logged: HashMap<(&str, &str), (usize, u64)> = HashMap::new();
    for (place, (entry, event)) in &view.log {
        logged.insert((&place.queue, &event.id), (*entry, place.position));
    }
    for (key, later) in &laters {
        // A call whose answer was lost may have taken it back.
        if !logged.contains_key(key) && !taken_back.contains(key) {
            never_came(view, later, found);
        }
    }
    order(view, &laters, &logged, found);
}

fn laters<'a>(view: &View<'a>) -> BTreeMap<(&'a str, &'a str), Later<'a>> {
    let mut asked: HashMap<(&str, &str), usize> = HashMap::new();
    for sent in view.publishes.iter().flat_map(|publish| publish.sent) {
        *asked.entry((&sent.queue, &sent.id)).or_default() += 1;
    }
    let mut laters = BTreeMap::new();
    for publish in &view.publishes {
        let Some((entry, answers)) = publish.answered else { continue };
        for (nth, (sent, answer)) in publish.sent.iter().zip(answers).enumerate() {
            if let (Some(due), Answer::Recorded { partition, position: None, .. }) = (sent.due, answer) {
                let key = (sent.queue.as_str(), sent.id.as_str());
                // Its first time holds.
                laters.entry(key).or_insert(Later {
                    queue: &sent.queue,
                    id: &sent.id,
                    due,
                    level: publish.level,
                    partition: *partition,
                    asked: publish.asked,
                    answered: entry,
                    nth,
                    again: asked.get(&key).is_some_and(|times| *times > 1),
                });
            }
        }
    }
    laters
}

/// What somebody took back, or may have; what comes all the same is found.
fn taken_back<'a>(
    view: &View<'a>,
    laters: &BTreeMap<(&'a str, &'a str), Later<'a>>,
    found: &mut Found,
) -> Vec<(&'a str, &'a str)> {
    let mut back = Vec::new();
    for (index, entry) in view.entries.iter().enumerate() {
        let What::Cancelled { queue, id, done } = &entry.what else { continue };
        if *done == Some(false) {
            continue;
        }
        let key = (queue.as_str(), id.as_str());
        back.push(key);
        // It may be published anew.
        let anew = |publish: &super::view::Publish<'_>| {
            publish.asked > index && publish.sent.iter().any(|sent| (sent.queue.as_str(), sent.id.as_str()) == key)
        };
        if done.is_none() || view.publishes.iter().any(anew) || view.may_be_forgotten(entry.at, u64::MAX) {
            continue;
        }
        let known = laters.get(&key).map_or(index, |later| later.answered);
        let came = view.entries.iter().enumerate().find(|(_, other)| {
            seen(&other.what).is_some_and(|event| (event.place.queue.as_str(), event.id.as_str()) == key)
        });
        if let Some((came, _)) = came {
            found.add(I2, format!("{id} was taken back, and came"), &[known, index, came]);
        }
    }
    back
}

/// Whoever sees it before its time.
fn too_early(view: &View<'_>, found: &mut Found) {
    let mut due: HashMap<(&str, &str), u64> = HashMap::new();
    for sent in view.publishes.iter().flat_map(|publish| publish.sent) {
        // Who publishes it for now as well may see it now.
        let time = sent.due.unwrap_or(0);
        let first = due.entry((&sent.queue, &sent.id)).or_insert(time);
        *first = time.min(*first);
    }
    if due.values().all(|time| *time == 0)
        || view.faults(0, u64::MAX).any(|fault| matches!(fault.harm, Harm::Clock { .. }))
    {
        return;
    }
    for (index, entry) in view.entries.iter().enumerate() {
        let Some(event) = seen(&entry.what) else { continue };
        let time = due.get(&(event.place.queue.as_str(), event.id.as_str()));
        if time.is_some_and(|time| entry.at + SLACK < *time) {
            found.add(I8, format!("{} came before its time", event.id), &[index]);
        }
    }
}

fn never_came(view: &View<'_>, later: &Later<'_>, found: &mut Found) {
    let end = view.entries.last().map_or(0, |entry| entry.at);
    let floor = view.heads.get(&(later.queue, later.partition)).map(|(floor, _)| *floor);
    let from = view.at(later.answered);
    let excused = later.due > end
        // Nobody can tell what was trimmed of what had no place yet.
        || floor != Some(1)
        || view.may_be_lost(from, end, later.level)
        || view.faults(from, end).any(|fault| matches!(fault.harm, Harm::Waiting));
    if !excused {
        found.add(I1, format!("{} was confirmed for later, and never came", later.id), &[later.answered]);
    }
}

/// What waited side by side lies in the log in the order of its times; what is due at once, in that of its arrival.
fn order(
    view: &View<'_>,
    laters: &BTreeMap<(&str, &str), Later<'_>>,
    logged: &HashMap<(&str, &str), (usize, u64)>,
    found: &mut Found,
) {
    if view.may_be_forgotten(0, u64::MAX) {
        return;
    }
    let mut lines: BTreeMap<(&str, u32), Vec<Lies<'_, '_>>> = BTreeMap::new();
    for (key, later) in laters.iter().filter(|(_, later)| !later.again) {
        if let Some((entry, position)) = logged.get(key) {
            lines.entry((later.queue, later.partition)).or_default().push((later, *entry, *position));
        }
    }
    for line in lines.values_mut() {
        line.sort_by_key(|(.., position)| *position);
        for pair in line.windows(2) {
            let [(first, one, _), (second, other, _)] = pair else { continue };
            let arrived_later =
                first.asked > second.answered || (first.asked == second.asked && first.nth > second.nth);
            if first.due > second.due + TICK || (first.due == second.due && arrived_later) {
                let told = format!("{} was due before {}, and lies behind it", second.id, first.id);
                found.add(I2, told, &[*one, *other]);
            }
        }
    }
}

/// The event that somebody saw.
fn seen(what: &What) -> Option<&Seen> {
    match what {
        What::Delivered { event, .. }
        | What::Handled { event, .. }
        | What::Logged { event }
        | What::Frame { frame: Frame::Event(event), .. } => Some(event),
        _ => None,
    }
}
