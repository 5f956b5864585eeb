//! I2: positions are dense, one place holds one event, and everybody sees the same order.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Found,
    Invariant::I2,
    presence::PRESENCE,
    view::{Recorded, View},
};
use crate::history::{Answer, Frame, Level, Place, Seen, What};

/// An event as somebody sent it: its queue, its id, its key.
type Wanted<'a> = (&'a str, &'a str, &'a str);

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    dense(view, found);
    one_event_a_place(view, found);
    publishers_order(view, found);
    nothing_invented(view, found);
}

/// Between the floor and the head there is no hole.
fn dense(view: &View<'_>, found: &mut Found) {
    if view.may_be_forgotten(0, u64::MAX) {
        // A log whose rows were destroyed tells its readers.
        return;
    }
    for ((queue, partition), (floor, next)) in &view.heads {
        for position in *floor..*next {
            let place = Place { queue: (*queue).to_owned(), partition: *partition, position };
            if !view.log.contains_key(&place) {
                found.add(I2, format!("nothing is at {place:?}, between the floor and the head"), &[]);
            }
        }
    }
}

/// Whoever saw a place saw the same event there, unless the log went back meanwhile.
fn one_event_a_place(view: &View<'_>, found: &mut Found) {
    let mut known: BTreeMap<Place, (usize, String)> = BTreeMap::new();
    let mut see = |entry: usize, place: &Place, id: &str| match known.get(place) {
        Some((before, other)) if other != id => {
            if !view.may_be_forgotten(view.at(*before), view.at(entry)) {
                let told = format!("{place:?} held {other}, and later {id}");
                found.add(I2, told, &[*before, entry]);
            }
            known.insert(place.clone(), (entry, id.to_owned()));
        }
        Some(_) => {}
        None => {
            known.insert(place.clone(), (entry, id.to_owned()));
        }
    };
    let answers: HashMap<usize, Vec<Recorded<'_>>> = view.recorded().fold(HashMap::new(), |mut answers, recorded| {
        answers.entry(recorded.entry).or_insert_with(Vec::new).push(recorded);
        answers
    });
    for (index, entry) in view.entries.iter().enumerate() {
        match &entry.what {
            What::PublishAnswered { .. } => {
                for recorded in answers.get(&index).into_iter().flatten() {
                    see(index, &recorded.place, &recorded.sent.id);
                }
            }
            What::Delivered { event, .. }
            | What::Handled { event, .. }
            | What::Logged { event }
            | What::Frame { frame: Frame::Event(event), .. } => see(index, &event.place, &event.id),
            _ => {}
        }
    }
}

/// Who publishes one after the other, or several at once, finds it in that order.
fn publishers_order(view: &View<'_>, found: &mut Found) {
    let mut last: HashMap<(&str, &str, u32), Recorded<'_>> = HashMap::new();
    for recorded in view.recorded().filter(|recorded| !recorded.duplicate) {
        let of = (recorded.publisher, recorded.sent.queue.as_str(), recorded.place.partition);
        if let Some(before) = last.get(&of)
            && before.place.position >= recorded.place.position
            // Or side by side in one publish, whose order holds too.
            && (before.entry <= recorded.asked || before.asked == recorded.asked)
            && !view.may_be_lost(view.at(before.entry), view.at(recorded.entry), Level::Stored)
        {
            let told = format!("{} was published after {} and lies before it", recorded.sent.id, before.sent.id);
            found.add(I2, told, &[before.entry, recorded.entry]);
        }
        last.insert(of, recorded);
    }
}

/// What the log holds, somebody sent, and not all of it was refused.
fn nothing_invented(view: &View<'_>, found: &mut Found) {
    let (mut sent, mut taken): (HashSet<Wanted<'_>>, HashSet<Wanted<'_>>) = Default::default();
    for publish in &view.publishes {
        let answers = publish.answered.map_or(&[][..], |(_, answers)| answers);
        for (at, one) in publish.sent.iter().enumerate() {
            let wanted = (one.queue.as_str(), one.id.as_str(), one.key.as_str());
            sent.insert(wanted);
            if !matches!(answers.get(at), Some(Answer::Refused(_) | Answer::Stale { .. })) {
                taken.insert(wanted);
            }
        }
    }
    for (entry, Seen { id, key, place, .. }) in view.log.values().filter(|(_, event)| event.place.queue != PRESENCE) {
        let is = (place.queue.as_str(), id.as_str(), key.as_str());
        if !sent.contains(&is) {
            found.add(I2, format!("{place:?} holds {id} of the key {key}, which nobody sent"), &[*entry]);
        } else if !taken.contains(&is) {
            found.add(I2, format!("{place:?} holds {id}, which was refused"), &[*entry]);
        }
    }
}
