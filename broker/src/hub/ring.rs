//! The newest events of a queue, in the order in which the node's reader saw them, for any number of readers.
//!
//! A reader's place is an index, which it alone knows. What falls out at the old end is read from the log by whoever still
//! needs it. Where the log broke off, the ring begins anew, so that each reader is told of the gap from its own place.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use events::Envelope;
use parking_lot::RwLock;
use tokio::sync::watch;

/// Events and bytes kept, a queue.
const MOST_EVENTS: usize = 4096;
const MOST_BYTES: usize = 8 << 20;

/// An event, and its JSON text, made once for all that send it.
#[derive(Debug)]
pub(crate) struct Event {
    pub envelope: Arc<Envelope>,
    pub json: String,
}

impl Event {
    pub(super) fn new(envelope: Arc<Envelope>) -> Self {
        let json = match serde_json::to_string(&*envelope) {
            Ok(json) => json,
            // Only times beyond the year 9999 have no text, and those were refused when it was published.
            Err(error) => {
                tracing::error!(id = envelope.id, %error, "an event has no JSON form");
                "null".to_owned()
            }
        };
        Self { envelope, json }
    }
}

/// The last position that was seen of a partition, and the lineage it was read in.
pub(super) type Place = (u64, u64);
pub(super) type Places = BTreeMap<u32, Place>;

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) partition: u32,
    pub(super) place: Place,
    pub(super) event: Arc<Event>,
}

#[derive(Default)]
pub(super) struct Ring {
    kept: RwLock<Kept>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    /// The index of the oldest entry.
    first: u64,
    bytes: usize,
    /// What lies before the oldest entry, a partition; None until the reader has begun.
    start: Option<Places>,
    /// The last entry's place, a partition, or the start's.
    end: Places,
}

/// It isn't kept any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FellOut;

impl Ring {
    /// Begins (anew) after these places. Whoever read the ring has fallen out of it.
    pub(super) fn begin(&self, after: Places) {
        let mut kept = self.kept.write();
        // One index is left out, so that a reader at the end notices too.
        kept.first += kept.entries.len() as u64 + 1;
        kept.entries.clear();
        kept.bytes = 0;
        kept.end.clone_from(&after);
        kept.start = Some(after);
        drop(kept);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Says in which lineages the ends are now, where nothing else has changed: one begins with every restart, and who
    /// comes from there names it.
    pub(super) fn rename(&self, end: Places) {
        let mut kept = self.kept.write();
        let positions =
            |places: &Places| places.iter().map(|(&partition, place)| (partition, place.1)).collect::<Vec<_>>();
        if kept.end == end || positions(&kept.end) != positions(&end) {
            return;
        }
        if kept.entries.is_empty() {
            kept.start = Some(end.clone());
        }
        kept.end = end;
        drop(kept);
        self.changed.send_modify(|version| *version += 1);
    }

    pub(super) fn push(&self, entry: Entry) {
        let mut kept = self.kept.write();
        kept.bytes += entry.event.json.len();
        kept.end.insert(entry.partition, entry.place);
        kept.entries.push_back(entry);
        while kept.entries.len() > MOST_EVENTS || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.bytes -= oldest.event.json.len();
            kept.first += 1;
            if let Some(start) = &mut kept.start {
                start.insert(oldest.partition, oldest.place);
            }
        }
        drop(kept);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Changes when there is something new to read.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether it knows of this partition.
    pub(super) fn knows(&self, partition: u32) -> bool {
        self.kept.read().end.contains_key(&partition)
    }

    /// The newest position of a partition.
    pub(super) fn newest(&self, partition: u32) -> u64 {
        self.kept.read().end.get(&partition).map_or(0, |place| place.1)
    }

    /// At most `limit` entries from an index on.
    pub(super) fn read(&self, from: u64, limit: usize) -> Result<Vec<Entry>, FellOut> {
        let kept = self.kept.read();
        let skip = from.checked_sub(kept.first).ok_or(FellOut)?;
        let skip = usize::try_from(skip).map_err(|_| FellOut)?;
        Ok(kept.entries.iter().skip(skip).take(limit).cloned().collect())
    }

    /// The index that a reader at these places goes on from, if all that it has not seen is kept. It may find entries
    /// there that it has seen.
    pub(super) fn join(&self, places: &Places) -> Option<u64> {
        let kept = self.kept.read();
        let start = kept.start.as_ref()?;
        // What the reader has not seen must be kept; of a partition that it knows nothing of, that is all.
        let seen = |partition| places.get(partition).map_or(0, |place: &Place| place.1);
        if start.iter().any(|(partition, place)| seen(partition) < place.1) {
            return None;
        }
        // From the newest on: each of the reader's places must be one that this ring went through.
        let mut missing = places.clone();
        missing.retain(|_, place| place.1 > 0);
        if missing.is_empty() {
            return Some(kept.first);
        }
        let end = kept.first + kept.entries.len() as u64;
        if kept.end == missing {
            return Some(end);
        }
        if missing.iter().any(|(partition, place)| kept.end.get(partition).is_none_or(|end| end.1 < place.1)) {
            return None;
        }
        // Of a partition that it has seen nothing of it needs all that is kept: then it reads from the oldest entry on.
        let saw_of_each = kept.end.iter().all(|(partition, end)| end.1 == 0 || seen(partition) > 0);
        for (back, entry) in (0..).zip(kept.entries.iter().rev()) {
            if missing.get(&entry.partition) == Some(&entry.place) {
                missing.remove(&entry.partition);
            }
            if missing.is_empty() && saw_of_each {
                return Some(end - back);
            }
        }
        missing.iter().all(|(partition, place)| start.get(partition) == Some(place)).then_some(kept.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Name;

    fn entry(partition: u32, lineage: u64, position: u64) -> Entry {
        let envelope = Envelope::new("/test", Name::new("DB").unwrap(), Name::new("A").unwrap());
        Entry { partition, place: (lineage, position), event: Arc::new(Event::new(Arc::new(envelope))) }
    }

    fn places(places: &[(u32, u64, u64)]) -> Places {
        places.iter().map(|&(partition, lineage, position)| (partition, (lineage, position))).collect()
    }

    fn positions(ring: &Ring, from: u64) -> Vec<u64> {
        ring.read(from, usize::MAX).unwrap().iter().map(|entry| entry.place.1).collect()
    }

    #[test]
    fn a_reader_joins_where_nothing_is_missing_between() {
        let ring = Ring::default();
        assert_eq!(ring.join(&places(&[])), None, "not begun");
        ring.begin(places(&[(0, 7, 10)]));
        for position in 11..=13 {
            ring.push(entry(0, 7, position));
        }
        for seen in 10..=13 {
            let from = ring.join(&places(&[(0, 7, seen)])).unwrap();
            assert_eq!(positions(&ring, from), (seen + 1..=13).collect::<Vec<_>>());
        }
        for elsewhere in [&[(0, 7, 9)][..], &[(0, 7, 14)], &[(0, 8, 11)], &[(1, 7, 11)], &[]] {
            assert_eq!(ring.join(&places(elsewhere)), None, "{elsewhere:?}");
        }
    }

    #[test]
    fn each_partition_counts() {
        let ring = Ring::default();
        ring.begin(places(&[(0, 7, 0), (1, 7, 5)]));
        for next in [entry(0, 7, 1), entry(1, 7, 6), entry(1, 7, 7), entry(0, 7, 2)] {
            ring.push(next);
        }
        let from = ring.join(&places(&[(0, 7, 1), (1, 7, 7)])).unwrap();
        assert_eq!(positions(&ring, from), [6, 7, 2], "what was seen is for the reader to pass over");
        assert!(ring.join(&places(&[(1, 7, 5)])).is_some(), "of partition 0 all is kept");
        assert_eq!(ring.join(&places(&[(0, 7, 2)])), None, "of partition 1 it is not");
    }

    #[test]
    fn a_partition_of_which_nothing_was_seen_is_read_from_its_beginning() {
        let ring = Ring::default();
        ring.begin(places(&[(0, 7, 0), (1, 7, 5), (2, 7, 0)]));
        for next in [entry(0, 7, 1), entry(1, 7, 6), entry(1, 7, 7), entry(0, 7, 2)] {
            ring.push(next);
        }
        for unseen in [&[(0, 7, 0), (1, 7, 7), (2, 7, 0)][..], &[(1, 7, 7)], &[(1, 7, 7), (2, 7, 0), (9, 7, 0)]] {
            let from = ring.join(&places(unseen)).unwrap();
            assert_eq!(positions(&ring, from), [1, 6, 7, 2], "{unseen:?}");
        }
        let from = ring.join(&places(&[(0, 7, 1), (1, 7, 7), (2, 7, 0)])).unwrap();
        assert_eq!(positions(&ring, from), [6, 7, 2], "an empty partition holds nobody back");
    }

    #[test]
    fn what_is_too_old_falls_out() {
        let ring = Ring::default();
        ring.begin(places(&[(0, 7, 0)]));
        let slow = ring.join(&places(&[])).unwrap();
        for position in 1..=MOST_EVENTS as u64 + 1 {
            ring.push(entry(0, 7, position));
        }
        assert_eq!(ring.read(slow, 1).err(), Some(FellOut));
        assert_eq!(ring.join(&places(&[(0, 7, 0)])), None);
        let from = ring.join(&places(&[(0, 7, 1)])).unwrap();
        assert_eq!(positions(&ring, from).len(), MOST_EVENTS);
    }

    #[test]
    fn a_new_lineage_without_events_is_joined_too() {
        let ring = Ring::default();
        ring.begin(places(&[(0, 7, 1)]));
        ring.push(entry(0, 7, 2));
        ring.rename(places(&[(0, 8, 3)]));
        assert_eq!(ring.join(&places(&[(0, 8, 3)])), None, "that is somewhere else");
        ring.rename(places(&[(0, 8, 2)]));
        for lineage in [7, 8] {
            let from = ring.join(&places(&[(0, lineage, 2)])).unwrap();
            assert_eq!(positions(&ring, from), [0_u64; 0]);
        }
        assert_eq!(ring.join(&places(&[(0, 9, 2)])), None);
    }

    #[test]
    fn who_was_at_the_end_notices_that_it_began_anew() {
        let ring = Ring::default();
        ring.begin(places(&[(0, 7, 3)]));
        let at = ring.join(&places(&[(0, 7, 3)])).unwrap();
        assert_eq!(positions(&ring, at), [0_u64; 0]);
        ring.begin(places(&[(0, 8, 0)]));
        assert_eq!(ring.read(at, 1).err(), Some(FellOut));
    }
}
