//! I7: a reader sees every event of its filter, in order, or is told of a gap: exactly which positions, where they were
//! trimmed. What a client is told says after what it comes, and that is what it was told last, on whichever link.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Invariant::I7, view::View};
use crate::history::{Action, Begins, Entry, Filter, Frame, Harm, Link, Place, What};

struct Reader<'a> {
    queue: &'a str,
    filter: &'a Filter,
    begins: Begins,
    caught_up: Option<usize>,
    /// The last position that it accounts for, and where it was told, a partition.
    seen: BTreeMap<u32, (u64, usize)>,
    /// Where it said last that it is, and when.
    cursor: Option<(&'a str, usize)>,
}

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut readers: HashMap<&str, Reader<'_>> = HashMap::new();
    for (index, Entry { what, .. }) in view.entries.iter().enumerate() {
        match what {
            What::Follows { reader, queue, filter, begins } => {
                let (begins, seen) = (*begins, BTreeMap::new());
                readers.insert(reader, Reader { queue, filter, begins, caught_up: None, seen, cursor: None });
            }
            What::Frame { reader, partition, frame, link } => {
                if let Some(reader) = readers.get_mut(reader.as_str()) {
                    reader.follow(index, link.as_ref(), found);
                    reader.take(view, index, *partition, frame, found);
                }
            }
            _ => {}
        }
    }
    for (name, reader) in readers {
        reader.end(view, name, found);
    }
}

impl<'a> Reader<'a> {
    fn follow(&mut self, entry: usize, link: Option<&'a Link>, found: &mut Found) {
        let Some(Link { prev, cursor }) = link else { return };
        if let (Some(prev), Some((last, told))) = (prev, self.cursor)
            && prev != last
        {
            found.add(I7, "a client is told something after another place than where it is", &[told, entry]);
        }
        self.cursor = Some((cursor, entry));
    }

    fn take(&mut self, view: &View<'_>, entry: usize, partition: u32, frame: &'a Frame, found: &mut Found) {
        match frame {
            Frame::CaughtUp => {
                // A client catches up again on each link.
                if let Some(before) = self.caught_up.replace(entry)
                    && self.cursor.is_none()
                {
                    found.add(I7, "a reader was told twice that it had caught up", &[before, entry]);
                }
            }
            Frame::Gap { from, to, lost, reason } => {
                self.gap(view, entry, partition, (*from, *to, *lost, reason), found);
                self.seen.insert(partition, (to.saturating_sub(1), entry));
            }
            Frame::Idle => {}
            Frame::Event(event) => {
                let position = event.place.position;
                if !self.filter.takes(&event.event) {
                    found.add(I7, format!("{} came through a filter that refuses it", event.id), &[entry]);
                }
                if let Some((last, told)) = self.seen.get(&partition).copied() {
                    if position <= last {
                        found.add(I7, format!("{} came after position {last}", event.id), &[told, entry]);
                    }
                    self.passed_over(view, partition, last + 1..position, entry, found);
                }
                self.seen.insert(partition, (position, entry));
            }
        }
    }

    fn gap(
        &self,
        view: &View<'_>,
        entry: usize,
        partition: u32,
        (from, to, lost, reason): (u64, u64, Option<u64>, &str),
        found: &mut Found,
    ) {
        let at = view.at(entry);
        let breaks = |harm: &Harm| matches!(harm, Harm::PowerLoss { .. } | Harm::Rollback { .. } | Harm::Amnesia);
        let broken = view.faults(0, at).any(|fault| breaks(fault.harm));
        let trimmed = view
            .actions
            .iter()
            .any(|(index, _, action)| matches!(action, Action::Trim | Action::Drop) && view.at(*index) <= at);
        let excused = if reason == "retention" { trimmed || broken } else { broken };
        if !excused {
            found.add(I7, format!("a gap of the reason {reason}, and nothing was lost or trimmed"), &[entry]);
        }
        if reason != "retention" {
            return;
        }
        if lost != Some(to.saturating_sub(from)) {
            found.add(I7, format!("a gap from {from} to {to} says that {lost:?} are lost"), &[entry]);
        }
        // What is trimmed may lie there for some time.
        let floor = view.heads.get(&(self.queue, partition)).map_or(u64::MAX, |(floor, _)| *floor);
        let there = (from.max(floor)..to).find_map(|position| {
            let place = Place { queue: self.queue.to_owned(), partition, position };
            view.log.get(&place).map(|(there, _)| (position, *there))
        });
        if let Some((position, there)) = there.filter(|_| !broken) {
            found.add(I7, format!("a gap from {from} to {to}, and {position} is there"), &[entry, there]);
        }
        if let Some((last, told)) = self.seen.get(&partition)
            && !(self.filter.0.is_some() || from == last + 1)
        {
            found.add(I7, format!("a gap begins at {from} after position {last}"), &[*told, entry]);
        }
    }

    /// What it said nothing of, its filter refuses.
    fn passed_over(
        &self,
        view: &View<'_>,
        partition: u32,
        positions: std::ops::Range<u64>,
        entry: usize,
        found: &mut Found,
    ) {
        for position in positions {
            let place = Place { queue: self.queue.to_owned(), partition, position };
            let Some((_, event)) = view.log.get(&place) else {
                // Trimmed since, or lost: without a filter it must have said so.
                if self.filter.0.is_none() {
                    found.add(I7, format!("a reader passed over {place:?} and said nothing"), &[entry]);
                }
                continue;
            };
            if self.filter.takes(&event.event) && !view.may_be_forgotten(0, u64::MAX) {
                found.add(I7, format!("a reader never got {} at {place:?}", event.id), &[entry]);
            }
        }
    }

    /// In the end it has everything up to the head.
    fn end(&self, view: &View<'_>, name: &str, found: &mut Found) {
        if !view.entries.iter().any(|entry| entry.what == What::Rest) {
            return;
        }
        for ((_, partition), (floor, next)) in view.heads.iter().filter(|((queue, _), _)| *queue == self.queue) {
            let from = match (self.seen.get(partition), self.begins) {
                (Some((last, _)), _) => last + 1,
                (None, Begins::Earliest) => *floor,
                (None, _) => continue,
            };
            for position in from..*next {
                let place = Place { queue: self.queue.to_owned(), partition: *partition, position };
                if let Some((entry, event)) = view.log.get(&place)
                    && self.filter.takes(&event.event)
                {
                    found.add(I7, format!("{name} never got {} at {place:?}", event.id), &[*entry]);
                }
            }
        }
    }
}
