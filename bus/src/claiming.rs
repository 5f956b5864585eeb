//! A claim's walk over a partition: leases on what is ready, then on what is new. The same for every backend; where the
//! events come from is the backend's ([`Source`]).

use std::sync::Arc;

use events::{Envelope, Filter};
use rand::Rng;

use crate::{
    Claimed, Leased, Logged, Token,
    clock::{millis, moment},
    ledger::{Ledger, Lessee, Room},
    publish,
};

/// Log entries a claim looks at, at most, and at a time: a filter that refuses most mustn't hold up the others.
pub(crate) const SCAN: usize = 2048;
const CHUNK: usize = 64;

/// An event of the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) bytes: usize,
    /// Milliseconds since 1970.
    pub(crate) recorded: i64,
}

impl From<Entry> for Logged {
    fn from(Entry { position, envelope, bytes, .. }: Entry) -> Self {
        Self { position, envelope, bytes }
    }
}

/// Where a partition's events are found.
pub(crate) trait Source {
    /// Ends the walk where it stands; with the same ledger it can be begun again.
    type Error;
    /// The position that the next event gets.
    fn next(&self) -> u64;
    /// Some events from a position on, at most `limit`; none where nothing can be read there.
    fn page(&mut self, from: u64, limit: usize) -> Result<Vec<Entry>, Self::Error>;
    /// The event of an unsettled record: the log's, or what a dead letter has kept of it.
    fn get(&mut self, position: u64) -> Result<Option<Entry>, Self::Error>;
    /// A redriven letter is settled: it needn't be kept any more.
    fn forget(&mut self, position: u64) -> Result<(), Self::Error>;
}

/// What stays the same during a claim, and what it has got.
pub(crate) struct Claiming<'a, R> {
    pub(crate) rng: &'a mut R,
    pub(crate) filter: &'a Filter,
    pub(crate) generation: u32,
    pub(crate) member: Arc<str>,
    /// Events whose time is over are leased too: what tells of them must get them.
    pub(crate) takes_expired: bool,
    pub(crate) now: i64,
    pub(crate) until: i64,
    /// How many events, bytes and log entries are left of what it may have.
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) scan: usize,
    pub(crate) claimed: Claimed,
    /// It came to the end of what its source had, and would have taken more.
    pub(crate) at_end: bool,
    /// What became of events that weren't leased: `filtered`, `expired`.
    pub(crate) outcomes: Vec<&'static str>,
}

impl<R: Rng> Claiming<'_, R> {
    /// Takes what may be taken of a partition. `held`, `holds_suspect`: what the member has of the group already.
    pub(crate) fn partition<S: Source>(
        &mut self,
        number: u32,
        source: &mut S,
        ledger: &mut Ledger,
        held: usize,
        holds_suspect: bool,
    ) -> Result<(), S::Error> {
        let of_this_claim = self.claimed.leased.iter().rev().take_while(|leased| leased.partition == number).count();
        match ledger.room(&Lessee { held, holds_suspect, of_this_claim }) {
            Room::Nothing => Ok(()),
            Room::Suspect(position) => {
                if let Some(entry) = self.fetch(source, ledger, position)? {
                    self.lease(number, ledger, entry);
                }
                Ok(())
            }
            Room::Events(room) => {
                let room = room.min(self.events);
                let before = self.claimed.leased.len();
                while self.claimed.leased.len() - before < room
                    && self.has_room()
                    && let Some(position) = ledger.first_ready()
                {
                    if let Some(entry) = self.fetch(source, ledger, position)? {
                        self.lease(number, ledger, entry);
                    }
                }
                let room = room - (self.claimed.leased.len() - before);
                self.take_new(number, source, ledger, room)
            }
        }
    }

    /// Whether one more event may be leased.
    pub(crate) fn has_room(&self) -> bool {
        self.events > 0 && self.bytes > 0
    }

    /// Takes new events in until there is no room for one more that is ready.
    fn take_new<S: Source>(
        &mut self,
        number: u32,
        source: &mut S,
        ledger: &mut Ledger,
        mut room: usize,
    ) -> Result<(), S::Error> {
        while ledger.next() < source.next() && ledger.takes_new() {
            if room == 0 || !self.has_room() || self.scan == 0 {
                self.claimed.more = true;
                return Ok(());
            }
            let chunk = source.page(ledger.next(), room.min(CHUNK).min(self.scan))?;
            if chunk.is_empty() {
                ledger.lose_next(ledger.next() + 1);
            }
            for entry in chunk {
                if !ledger.takes_new() || !self.has_room() {
                    break;
                }
                self.scan = self.scan.saturating_sub(1);
                // Nobody can read what lies between.
                ledger.lose_next(entry.position);
                if ledger.record(entry.position).is_some() {
                    ledger.pass();
                } else if !self.filter.matches(&entry.envelope) {
                    self.outcomes.push("filtered");
                    ledger.pass();
                } else if self.is_over(&entry) {
                    self.outcomes.push("expired");
                    ledger.pass_expired();
                } else if ledger.take(publish::hash(entry.envelope.key())) {
                    self.lease(number, ledger, entry);
                    room -= 1;
                }
            }
        }
        self.at_end = ledger.takes_new() && room > 0 && self.has_room() && self.scan > 0;
        Ok(())
    }

    /// The event of a record that is ready. None, and the record settled, where it is over or no longer kept.
    fn fetch<S: Source>(
        &mut self,
        source: &mut S,
        ledger: &mut Ledger,
        position: u64,
    ) -> Result<Option<Entry>, S::Error> {
        match source.get(position)? {
            Some(entry) if !self.is_over(&entry) => return Ok(Some(entry)),
            Some(_) => {
                self.outcomes.push("expired");
                self.forget(source, ledger, position)?;
                ledger.drop_expired(position);
            }
            None => {
                tracing::error!(position, "an unsettled event is no longer in the log");
                self.forget(source, ledger, position)?;
                ledger.lose_one(position);
            }
        }
        Ok(None)
    }

    /// A redriven letter that isn't delivered needn't be kept.
    fn forget<S: Source>(&self, source: &mut S, ledger: &Ledger, position: u64) -> Result<(), S::Error> {
        if ledger.record(position).is_some_and(|record| record.redrive > 0) { source.forget(position) } else { Ok(()) }
    }

    fn lease(&mut self, partition: u32, ledger: &mut Ledger, entry: Entry) {
        let secret = self.rng.random();
        ledger.lease(entry.position, &self.member, secret, self.now, self.until);
        let Some(record) = ledger.record(entry.position) else { return };
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.claimed.leased.push(Leased {
            token: Token { generation: self.generation, partition, position: entry.position, secret },
            partition,
            position: entry.position,
            attempt: record.failures + 1,
            redrive: record.redrive,
            first_delivered: moment(record.first_delivered),
            until: moment(self.until),
            envelope: entry.envelope,
        });
    }

    fn is_over(&self, entry: &Entry) -> bool {
        !self.takes_expired && entry.envelope.expirytime.is_some_and(|time| millis(time) <= self.now)
    }
}
