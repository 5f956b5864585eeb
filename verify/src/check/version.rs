//! I2: what expects a version follows the event that it expected, and nothing else; it is refused only where its key had
//! another one.

use std::collections::BTreeMap;

use super::{Found, Invariant::I2, view::View};
use crate::history::{Answer, Place, Sent};

/// The events of a key, by position: the entry in the log, and when it was confirmed, if that is known.
type Key<'a> = BTreeMap<u64, (usize, Option<u64>)>;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    if !view.publishes.iter().flat_map(|publish| publish.sent).any(|sent| sent.expects.is_some()) {
        return;
    }
    let mut confirmed: BTreeMap<Place, u64> = BTreeMap::new();
    for recorded in view.recorded().filter(|recorded| !recorded.duplicate) {
        confirmed.insert(recorded.place.clone(), view.at(recorded.entry));
    }
    let mut keys: BTreeMap<(&str, &str), Key<'_>> = BTreeMap::new();
    for (place, (entry, event)) in &view.log {
        let key = keys.entry((&place.queue, &event.key)).or_default();
        key.insert(place.position, (*entry, confirmed.get(place).copied()));
    }
    for publish in &view.publishes {
        let Some((entry, answers)) = publish.answered else { continue };
        let (asked, at) = (view.at(publish.asked), view.at(entry));
        for (sent, answer) in publish.sent.iter().zip(answers) {
            let (Some(expected), Some(key)) = (sent.expects, keys.get(&(sent.queue.as_str(), sent.key.as_str())))
            else {
                continue;
            };
            if view.may_be_forgotten(at, u64::MAX) {
                continue;
            }
            match answer {
                Answer::Recorded { partition, position: Some(position), duplicate: false } => {
                    let floor = view.heads.get(&(sent.queue.as_str(), *partition)).map_or(1, |(floor, _)| *floor);
                    follows(sent, entry, key, (expected, *position, floor), found);
                }
                Answer::Stale { current } => {
                    refused(sent, [publish.asked, entry], key, (expected, *current, asked), found);
                }
                _ => {}
            }
        }
    }
}

/// It was taken: what lies before it of its key is what it expected.
fn follows(sent: &Sent, entry: usize, key: &Key<'_>, (expected, position, floor): (u64, u64, u64), found: &mut Found) {
    let before = key.range(..position).next_back().map(|(before, _)| *before);
    // It was trimmed since, or there was none.
    let is_it = before.map_or(expected < floor, |before| before == expected);
    if !is_it {
        let told = format!("{} expected its key's event at {expected}, and follows {before:?}", sent.id);
        found.add(I2, told, &[entry]);
    }
}

/// It was refused: its key had another version, at some moment of the call.
fn refused(
    sent: &Sent,
    proof: [usize; 2],
    key: &Key<'_>,
    (expected, current, asked): (u64, u64, u64),
    found: &mut Found,
) {
    let lies = current == 0 || key.contains_key(&current) || key.keys().next().is_none_or(|first| current < *first);
    let passed = key.range(current + 1..).next().is_some_and(|(_, (_, at))| at.is_some_and(|at| at < asked));
    if current == expected || !lies || passed {
        let told = format!("{} expected {expected}, and was refused since {current} was its key's last", sent.id);
        found.add(I2, told, &proof);
    }
}
