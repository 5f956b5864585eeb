//! What was recorded a moment ago, as the hint of a small publish carries it: whoever follows a partition needn't ask for
//! what it was just told. A run of positions of one lineage; whatever isn't in it is read from the stream.

use std::{collections::VecDeque, sync::Arc};

use super::log::decode;
use crate::claiming::Entry;

/// Events and bytes that are kept, a partition.
const EVENTS: usize = 256;
const BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Recent {
    lineage: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The position after the last one.
    end: u64,
}

/// An entry of the stream, as a hint tells it: `e:QUEUE:PARTITION:LINEAGE:FIRST:MILLISECONDS:LENGTH,LENGTH` and a line
/// feed, then the events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told<'a> {
    pub(super) queue: &'a str,
    pub(super) partition: u32,
    pub(super) lineage: u64,
    pub(super) first: u64,
    pub(super) recorded: i64,
    pub(super) events: Vec<&'a [u8]>,
}

impl<'a> Told<'a> {
    /// None for a hint of another kind, or of another version.
    pub(super) fn read(hint: &'a [u8]) -> Option<Self> {
        let end = hint.iter().position(|byte| *byte == b'\n')?;
        let (head, mut rest) = (std::str::from_utf8(&hint[..end]).ok()?, &hint[end + 1..]);
        let mut fields = head.strip_prefix("e:")?.split(':');
        let mut field = || fields.next();
        let (queue, partition) = (field()?, field()?.parse().ok()?);
        let (lineage, first, recorded) = (field()?.parse().ok()?, field()?.parse().ok()?, field()?.parse().ok()?);
        let mut events = Vec::new();
        for length in field()?.split(',') {
            let (event, after) = rest.split_at_checked(length.parse().ok()?)?;
            events.push(event);
            rest = after;
        }
        Some(Self { queue, partition, lineage, first, recorded, events })
    }

    /// The position after its last event.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.events.len() as u64)
    }
}

impl Recent {
    /// Takes in what was told. What doesn't go on where the run ends begins a new one.
    pub(super) fn take(&mut self, told: &Told<'_>) {
        if told.lineage != self.lineage || told.first != self.end {
            *self = Self { lineage: told.lineage, end: told.first, ..Self::default() };
        }
        for json in &told.events {
            let Some(envelope) = decode(json, told.recorded, self.end) else {
                // A hole would look like an event that can't be read.
                *self = Self::default();
                return;
            };
            let (position, bytes) = (self.end, json.len());
            self.entries.push_back(Entry { position, envelope: Arc::new(envelope), bytes, recorded: told.recorded });
            self.bytes += bytes;
            self.end += 1;
        }
        while self.entries.len() > EVENTS || self.bytes > BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// Events of a lineage from a position on, at most so many; none where `from` is the next position and `head` says that
    /// nothing more is there. None: they must be read.
    pub(super) fn read(&self, lineage: u64, from: u64, head: u64, limit: usize) -> Option<Vec<Entry>> {
        if lineage != self.lineage || (from == self.end && head > self.end) {
            return None;
        }
        let first = self.end - self.entries.len() as u64;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        (from <= self.end).then(|| self.entries.iter().skip(skip).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use events::{Envelope, Name};

    use super::*;

    fn hint(lineage: u64, first: u64, ids: &[&str]) -> Vec<u8> {
        let name = |text| Name::new(text).unwrap();
        let event = |id: &&str| serde_json::to_vec(&Envelope::new("/s", name("DB"), name("CREATE")).id(*id)).unwrap();
        let events: Vec<Vec<u8>> = ids.iter().map(event).collect();
        let lengths: Vec<String> = events.iter().map(|event| event.len().to_string()).collect();
        let mut hint = format!("e:DB:3:{lineage}:{first}:1700000000000:{}\n", lengths.join(",")).into_bytes();
        hint.extend(events.concat());
        hint
    }

    fn take(recent: &mut Recent, lineage: u64, first: u64, ids: &[&str]) {
        recent.take(&Told::read(&hint(lineage, first, ids)).unwrap());
    }

    fn ids(entries: Option<Vec<Entry>>) -> Option<Vec<String>> {
        entries.map(|entries| entries.iter().map(|entry| entry.envelope.id.clone()).collect())
    }

    #[test]
    fn a_run_is_read_from_any_of_its_positions() {
        let mut recent = Recent::default();
        take(&mut recent, 7, 5, &["a", "b"]);
        take(&mut recent, 7, 7, &["c"]);
        assert_eq!(ids(recent.read(7, 5, 8, 10)), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(ids(recent.read(7, 6, 8, 1)), Some(vec!["b".into()]));
        assert_eq!(ids(recent.read(7, 8, 8, 10)), Some(vec![]), "there is no more");
        assert_eq!(recent.read(7, 8, 9, 10).map(|entries| entries.len()), None, "there is more, which wasn't told");
        for (lineage, from) in [(7, 4), (7, 9), (8, 5)] {
            assert!(recent.read(lineage, from, 8, 10).is_none(), "{lineage} {from}");
        }
    }

    #[test]
    fn what_does_not_go_on_begins_anew() {
        let mut recent = Recent::default();
        take(&mut recent, 7, 5, &["a"]);
        take(&mut recent, 7, 9, &["b"]);
        assert!(recent.read(7, 5, 10, 10).is_none());
        assert_eq!(ids(recent.read(7, 9, 10, 10)), Some(vec!["b".into()]));
        take(&mut recent, 8, 10, &["c"]);
        assert!(recent.read(7, 9, 11, 10).is_none());
        assert_eq!(ids(recent.read(8, 10, 11, 10)), Some(vec!["c".into()]));
    }

    #[test]
    fn it_is_bounded() {
        let mut recent = Recent::default();
        for first in 1..=2 * EVENTS as u64 {
            take(&mut recent, 7, first, &["a"]);
        }
        assert_eq!(recent.entries.len(), EVENTS);
        assert_eq!(recent.bytes, recent.entries.iter().map(|entry| entry.bytes).sum::<usize>());
    }

    #[test]
    fn hints_of_other_kinds_are_none() {
        let whole = hint(7, 5, &["a", "b"]);
        assert_eq!(Told::read(&whole).map(|told| (told.queue, told.partition, told.end())), Some(("DB", 3, 7)));
        for wrong in
            [&b""[..], b"q:DB", b"e:DB:3", b"e:DB:3:7:5:17:\n", b"e:DB:3:7:5:17:4\nabc", &whole[..whole.len() - 1]]
        {
            assert_eq!(Told::read(wrong), None, "{:?}", String::from_utf8_lossy(wrong));
        }
    }
}
