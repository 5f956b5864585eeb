//! A partition as this process knows it: its keys, and what the last script on it told.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use events::Name;
use parking_lot::{Mutex, RwLock};
use redis::{FromRedisValue as _, Value};
use tokio::sync::mpsc;

use super::{
    keys::PartitionKeys,
    publisher::Request,
    recent::{Recent, Told},
    server::unexpected,
};
use crate::{Error, Lineage, Lineages, claiming::Entry};

/// How long what was told of a partition holds: whoever follows one looks at it once a second.
const FRESH: Duration = Duration::from_secs(2);
/// Bytes that are read at a time, about.
const READ: usize = 4 << 20;
/// Milliseconds that no answer is under way for, as long as the network is well.
const ANOTHER_CLOCK: i64 = 1_000;

pub(super) struct Place {
    pub(super) queue: Name,
    pub(super) partition: u32,
    pub(super) keys: PartitionKeys,
    /// To the task that publishes into it, once there is one.
    pub(super) publisher: OnceLock<mpsc::Sender<Request>>,
    /// Held while each key's last event is looked up in the log.
    pub(super) building: tokio::sync::Mutex<()>,
    view: RwLock<View>,
    /// When the next event that waits is due, or before; in milliseconds since 1970.
    due: AtomicI64,
    /// The server's time, as the partition's scripts see it, and when it was told.
    told: RwLock<(i64, Instant)>,
    recent: Mutex<Recent>,
    /// Events and bytes of an entry, on the average of those that were read last.
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// What was true when a script ran.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Of the current lineage.
    pub(super) lineage: u64,
    pub(super) lineages: Arc<Lineages>,
    pub(super) floor: u64,
    /// The position that the next event gets.
    pub(super) next: u64,
    /// The server's time, in milliseconds since 1970, as the partition's scripts see it: it never goes back.
    pub(super) now: i64,
}

/// A script's own answer, and what its prelude told.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) view: View,
    /// `Value::Nil` where the script returns nothing.
    pub(super) value: Value,
}

impl Place {
    pub(super) fn new(queue: Name, partition: u32, keys: PartitionKeys) -> Self {
        let view = View { lineage: 0, lineages: Arc::default(), floor: 1, next: 1, now: 0 };
        Self {
            queue,
            partition,
            keys,
            publisher: OnceLock::new(),
            building: tokio::sync::Mutex::new(()),
            due: AtomicI64::new(i64::MAX),
            view: RwLock::new(view),
            told: RwLock::new((0, Instant::now())),
            recent: Mutex::default(),
            // Small ones, as long as none is known: too much is read at most once.
            events: AtomicUsize::new(32),
            bytes: AtomicUsize::new(READ / 32),
        }
    }

    /// Takes in what a hint told.
    pub(super) fn recorded(&self, told: &Told<'_>) {
        self.recent.lock().take(told);
        let mut known = self.view.write();
        if known.lineage == told.lineage {
            known.next = known.next.max(told.end());
        }
    }

    /// Events from a position on, as hints have told them; none where nothing more is there. None: they must be read.
    pub(super) fn recall(&self, from: u64, limit: usize) -> Option<(View, Vec<Entry>)> {
        if self.told.read().1.elapsed() > FRESH {
            return None;
        }
        let view = self.view();
        let entries = self.recent.lock().read(view.lineage, from, view.next, limit)?;
        (from >= view.floor).then_some((view, entries))
    }

    /// When the next event that waits is due, as far as it is known; it may be over already.
    pub(super) fn due(&self) -> i64 {
        self.due.load(Ordering::Relaxed)
    }

    /// Before a script that records what is due: what it tells is what holds then.
    pub(super) fn forget_due(&self) {
        self.due.store(i64::MAX, Ordering::Relaxed);
    }

    /// How many entries of its stream to read for so many events.
    pub(super) fn entries(&self, events: usize) -> usize {
        let each = self.events.load(Ordering::Relaxed).max(1);
        let by_bytes = READ / self.bytes.load(Ordering::Relaxed).max(1);
        events.div_ceil(each).min(by_bytes).max(1)
    }

    /// Learns from entries that were read: events and bytes of each.
    pub(super) fn read(&self, entries: impl ExactSizeIterator<Item = (usize, usize)>) {
        let count = entries.len();
        if count == 0 {
            return;
        }
        let (events, bytes) = entries.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        self.events.store(events / count, Ordering::Relaxed);
        self.bytes.store(bytes / count, Ordering::Relaxed);
    }

    /// What was last told of it.
    pub(super) fn view(&self) -> View {
        self.view.read().clone()
    }

    /// The server's time, as the partition's scripts see it: what was told last, and what passed since then. No step of
    /// this machine's clock moves it.
    pub(super) fn now(&self) -> i64 {
        let (told, at) = *self.told.read();
        told.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// An answer that was long under way tells an older time than what passed since a faster one: leases that were given
    /// by it would end early for everybody else. A time that is far behind is another clock's.
    fn keep_time(&self, now: i64) {
        let mut told = self.told.write();
        let (last, at) = *told;
        let known = last.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX));
        *told = (if known - now > ANOTHER_CLOCK { now } else { now.max(known) }, Instant::now());
    }

    /// Takes a script's answer in; and whether it told of another lineage than the last one. `asked`: the view with which
    /// it was called.
    pub(super) fn took(&self, answer: Value, asked: &View) -> Result<(Ran, bool), Error> {
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let [lineage, next, floor, now, lineages, value, due]: [Value; 7] =
            parts.try_into().map_err(|_| unexpected())?;
        let number = |value: &Value| u64::from_redis_value_ref(value).map_err(|_| unexpected());
        let (lineage, next, floor) = (number(&lineage)?, number(&next)?, number(&floor)?);
        let now = i64::from_redis_value(now).map_err(|_| unexpected())?;
        let lineages = Option::<String>::from_redis_value(lineages).map_err(|_| unexpected())?;
        if let Some(due) = Option::<i64>::from_redis_value(due).map_err(|_| unexpected())? {
            self.due.fetch_min(due, Ordering::Relaxed);
        }
        self.keep_time(now);
        let mut known = self.view.write();
        // Answers overtake each other; what is older doesn't count. A lineage that needn't be told is the one that was
        // known by whoever asked, but perhaps not any more.
        let (lineages, is_older) = match lineages {
            Some(text) => {
                let former = known.lineage != lineage && known.lineages.0.iter().any(|known| known.id == lineage);
                (Arc::new(parse(&text).ok_or_else(unexpected)?), former)
            }
            None => (asked.lineages.clone(), known.lineage != lineage),
        };
        let view = View { lineage, lineages, floor, next, now };
        let changed = known.lineage != lineage && !is_older;
        if changed || (!is_older && (next > known.next || floor > known.floor)) {
            *known = view.clone();
        } else {
            known.now = known.now.max(now);
        }
        Ok((Ran { view, value }, changed))
    }
}

/// As the prelude writes them: `id:first:parent`, the oldest first.
fn parse(text: &str) -> Option<Lineages> {
    let lineage = |text: &str| {
        let mut fields = text.split(':');
        let (id, first, parent) = (fields.next()?, fields.next()?, fields.next()?);
        let parent = if parent.is_empty() { None } else { Some(parent.parse().ok()?) };
        Some(Lineage { id: id.parse().ok()?, first: first.parse().ok()?, parent })
    };
    text.split(',').map(lineage).collect::<Option<_>>().map(Lineages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lineage: u64, next: u64, lineages: Option<&str>) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let next = i64::try_from(next).unwrap();
        let lineages = lineages.map_or(Value::Nil, text);
        Value::Array(vec![
            text(&lineage.to_string()),
            Value::Int(next),
            Value::Int(1),
            Value::Int(7),
            lineages,
            Value::Nil,
            Value::Nil,
        ])
    }

    #[test]
    fn an_answer_from_before_a_flush_is_about_the_log_of_its_time() {
        let keys = crate::redis::keys::Keys::new("tp").partition(&Name::new("DB").unwrap(), 0);
        let place = Place::new(Name::new("DB").unwrap(), 0, keys);
        place.took(answer(7, 5, Some("7:1:")), &place.view()).unwrap();
        let asked = place.view();
        // Two were asked before the flush; the one that ran after it is heard first.
        place.took(answer(9, 1, Some("9:1:")), &asked).unwrap();
        let (late, changed) = place.took(answer(7, 6, None), &asked).unwrap();
        assert_eq!(late.view.lineages.of(5).map(|lineage| lineage.id), Some(7), "it was recorded in what is gone");
        assert!(!changed);
        assert_eq!((place.view().lineage, place.view().next), (9, 1), "what is known now stays");
    }

    #[test]
    fn lineages_are_read_as_the_prelude_writes_them() {
        let lineages = parse("7:1:,9:12:7").unwrap();
        let first = Lineage { id: 7, first: 1, parent: None };
        assert_eq!(lineages.0, [first, Lineage { id: 9, first: 12, parent: Some(7) }]);
        assert_eq!(parse("7:1"), None);
        assert_eq!(parse(""), None);
    }
}
