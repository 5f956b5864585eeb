//! Records of one process, gone with it. Bounded by bytes: where there are too many, the oldest go first, but none that is
//! in flight: what is being done must not be begun again. Those are no more than the gateway has requests in flight.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Id, Record, State, Store};
use crate::{error::Error, metrics::METRICS};

/// All records together, in bytes.
const CAPACITY: usize = 64 * 1024 * 1024;
/// What a record takes beside its text, about.
const OVERHEAD: usize = 256;

pub struct InProcess(Mutex<Kept>);

struct Kept {
    records: HashMap<Id, Entry>,
    /// The order in which they were put; one that was put again since, or is gone, is named by a number no entry has.
    order: VecDeque<(u64, Id)>,
    put: u64,
    bytes: usize,
    capacity: usize,
}

struct Entry {
    record: Record,
    until: Instant,
    number: u64,
}

impl Default for InProcess {
    fn default() -> Self {
        Self(Mutex::new(Kept::new(CAPACITY)))
    }
}

impl Kept {
    fn new(capacity: usize) -> Self {
        Self { records: HashMap::new(), order: VecDeque::new(), put: 0, bytes: 0, capacity }
    }

    fn get(&self, id: &Id, now: Instant) -> Option<&Record> {
        self.records.get(id).filter(|entry| now < entry.until).map(|entry| &entry.record)
    }

    fn put(&mut self, id: Id, record: Record, until: Instant, now: Instant) {
        self.remove(&id);
        self.put += 1;
        self.bytes += size(&record);
        self.order.push_back((self.put, id));
        self.records.insert(id, Entry { record, until, number: self.put });
        self.make_room(now);
        // Names of what is long gone must not pile up behind one record that lives.
        if self.order.len() > 2 * self.records.len() + 64 {
            let records = &self.records;
            self.order.retain(|(number, id)| records.get(id).is_some_and(|entry| entry.number == *number));
        }
    }

    fn make_room(&mut self, now: Instant) {
        for _ in 0..self.order.len() {
            if self.bytes <= self.capacity {
                return;
            }
            let Some((number, id)) = self.order.pop_front() else { return };
            let Some(entry) = self.records.get(&id).filter(|entry| entry.number == number) else { continue };
            let lives = now < entry.until;
            if lives && matches!(entry.record.state, State::InFlight(_)) {
                self.order.push_back((number, id));
                continue;
            }
            if lives {
                METRICS.answer_evicted();
            }
            self.remove(&id);
        }
    }

    fn remove(&mut self, id: &Id) {
        if let Some(entry) = self.records.remove(id) {
            self.bytes -= size(&entry.record);
        }
    }
}

fn size(record: &Record) -> usize {
    let answer = match &record.state {
        State::InFlight(_) => 0,
        State::Answered(answer) => {
            answer.body.len() + answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
    };
    OVERHEAD + record.fingerprint.len() + answer
}

#[async_trait]
impl Store for InProcess {
    async fn begin(&self, id: Id, record: &Record, keep: Duration) -> Result<Option<Record>, Error> {
        let now = Instant::now();
        let mut kept = self.0.lock();
        let known = kept.get(&id, now).cloned();
        if known.is_none() {
            kept.put(id, record.clone(), now + keep, now);
        }
        Ok(known)
    }

    async fn complete(&self, id: Id, record: Record, keep: Duration) -> Result<(), Error> {
        let now = Instant::now();
        self.0.lock().put(id, record, now + keep, now);
        Ok(())
    }

    async fn forget(&self, id: Id, record: &Record) -> Result<(), Error> {
        let mut kept = self.0.lock();
        if kept.records.get(&id).is_some_and(|entry| entry.record == *record) {
            kept.remove(&id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::Answer;

    fn record(number: u64) -> Record {
        Record { fingerprint: "x".repeat(100), state: State::InFlight(number) }
    }

    fn id(number: usize) -> Id {
        [u8::try_from(number % 256).unwrap(); 32]
    }

    fn answered(number: u64) -> Record {
        let answer = Answer { status: 200, headers: Vec::new(), body: number.to_be_bytes().to_vec() };
        Record { fingerprint: "x".repeat(100), state: State::Answered(answer) }
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let mut kept = Kept::new(10 * size(&answered(0)));
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        for number in 0..30 {
            kept.put(id(number), answered(number as u64), until, now);
            // The first is put again and again, so that it is never the oldest.
            kept.put(id(0), answered(0), until, now);
        }
        assert_eq!(kept.records.len(), 10);
        assert!(kept.get(&id(0), now).is_some() && kept.get(&id(29), now).is_some());
        assert!(kept.get(&id(1), now).is_none());
        assert!(kept.bytes <= kept.capacity && kept.order.len() < 100);
    }

    #[test]
    fn what_is_in_flight_is_not_forgotten_for_want_of_room() {
        let mut kept = Kept::new(10 * size(&answered(0)));
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(60));
        kept.put(id(0), record(0), soon, now);
        for number in 1..30 {
            kept.put(id(number), answered(number as u64), later, now);
        }
        assert!(kept.get(&id(0), now).is_some() && kept.bytes <= kept.capacity);
        for number in 30..60 {
            kept.put(id(number), answered(number as u64), later, soon);
        }
        assert!(!kept.records.contains_key(&id(0)), "its time was over");
    }

    #[test]
    fn a_record_ends_by_itself() {
        let mut kept = Kept::new(CAPACITY);
        let now = Instant::now();
        kept.put(id(1), record(1), now + Duration::from_secs(1), now);
        assert!(kept.get(&id(1), now).is_some());
        assert!(kept.get(&id(1), now + Duration::from_secs(1)).is_none());
    }

    #[tokio::test]
    async fn only_who_began_a_record_can_have_it_forgotten() {
        let store = InProcess::default();
        let minute = Duration::from_secs(60);
        let begin = async |number| store.begin(id(1), &record(number), minute).await.ok().unwrap();
        assert_eq!(begin(1).await, None);
        store.forget(id(1), &record(2)).await.ok().unwrap();
        assert_eq!(begin(2).await, Some(record(1)));
        store.forget(id(1), &record(1)).await.ok().unwrap();
        assert_eq!(begin(2).await, None);
    }
}
