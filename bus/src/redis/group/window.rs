//! What a node has read of a partition's log for a group: some events ahead of the group's place, and those of records
//! that are ready again. Read without a look at the partition: a commit tells whether the lineage is still the same.

use std::{collections::HashMap, sync::Arc};

use super::super::{place::Place, shared::Shared};
use super::{super::log, letter};
use crate::{
    Error,
    claiming::{Entry, Source},
};

/// Events read ahead at a time: at most, and at least, since a member that claims one after another reads on soon.
const AHEAD: usize = 512;
const LEAST: usize = 32;

pub(super) struct Window {
    place: Arc<Place>,
    /// The hash of the group's dead letters.
    letters: String,
    /// What was read ahead: all there is from `from` to `to`.
    ahead: Vec<Entry>,
    from: u64,
    to: u64,
    /// The events of single records, where they are read for a batch; None: nobody has it any more.
    single: HashMap<u64, Option<Entry>>,
    /// Redriven letters that were settled without a delivery.
    pub(super) forgotten: Vec<u64>,
    /// The log was found to begin later than it was read from.
    late: bool,
}

/// A walk needs more of the log than is here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missing {
    Ahead(u64),
    Single(u64),
}

impl Source for Window {
    type Error = Missing;

    fn next(&self) -> u64 {
        self.to
    }

    fn page(&mut self, from: u64, limit: usize) -> Result<Vec<Entry>, Missing> {
        if from < self.from || from >= self.to {
            return Err(Missing::Ahead(from));
        }
        let skip = self.ahead.partition_point(|entry| entry.position < from);
        Ok(self.ahead[skip..].iter().take(limit).cloned().collect())
    }

    fn get(&mut self, position: u64) -> Result<Option<Entry>, Missing> {
        if let Some(entry) = self.find_ahead(position) {
            return Ok(Some(entry));
        }
        self.single.get(&position).cloned().ok_or(Missing::Single(position))
    }

    fn forget(&mut self, position: u64) -> Result<(), Missing> {
        self.forgotten.push(position);
        Ok(())
    }
}

impl Window {
    pub(super) fn new(place: Arc<Place>, letters: String) -> Self {
        Self {
            place,
            letters,
            ahead: Vec::new(),
            from: 0,
            to: 0,
            single: HashMap::new(),
            forgotten: Vec::new(),
            late: false,
        }
    }

    /// Forgets what it has read: the log may be another one.
    pub(super) fn clear(&mut self) {
        let Self { place, letters, .. } = self;
        *self = Self::new(place.clone(), std::mem::take(letters));
    }

    /// Whether all was read that is known to be recorded.
    pub(super) fn reaches_head(&self) -> bool {
        self.to >= self.place.view().next
    }

    /// Whether the log was found to begin later than it was read from; then the place is looked at, which tells where.
    pub(super) async fn begins_late(&mut self, shared: &Shared) -> Result<bool, Error> {
        if std::mem::take(&mut self.late) {
            shared.look(&self.place.queue, self.place.partition).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Forgets what the batch needed besides.
    pub(super) fn end_batch(&mut self) {
        self.single.clear();
        self.forgotten.clear();
    }

    pub(super) async fn fill(&mut self, shared: &Shared, missing: Missing, wanted: usize) -> Result<(), Error> {
        match missing {
            Missing::Ahead(from) => self.read_ahead(shared, from, wanted).await.map(drop),
            Missing::Single(position) => {
                if self.read(shared, position).await?.is_none() {
                    self.single.insert(position, None);
                }
                Ok(())
            }
        }
    }

    /// Reads on from a position; whether that was all there is.
    pub(super) async fn read_ahead(&mut self, shared: &Shared, from: u64, wanted: usize) -> Result<bool, Error> {
        let read = log::ahead(shared, &self.place, from, wanted.clamp(LEAST, AHEAD)).await?;
        let view = self.place.view();
        self.from = from;
        self.late = read.begin > from;
        // Nothing where something was recorded: it was trimmed, or is of a log that is gone, which the commit tells.
        self.to = if read.end > from { read.end } else { from.max(view.floor) };
        self.ahead = read.events;
        Ok(read.ended)
    }

    /// The event of a position, from the log or from the letters.
    pub(super) async fn read(&mut self, shared: &Shared, position: u64) -> Result<Option<Entry>, Error> {
        if let Ok(known) = self.get(position) {
            return Ok(known);
        }
        // Records that are ready again mostly lie side by side.
        let read = log::ahead(shared, &self.place, position, AHEAD / 8).await?;
        self.single.extend(read.events.into_iter().map(|entry| (entry.position, Some(entry))));
        if let Some(known) = self.single.get(&position) {
            return Ok(known.clone());
        }
        let text: Option<String> = shared.server.ask(redis::cmd("HGET").arg(&self.letters).arg(position)).await?;
        let kept = text.and_then(|text| letter::read(&text, position)).map(letter::Letter::into_entry);
        self.single.insert(position, kept.clone());
        Ok(kept)
    }

    fn find_ahead(&self, position: u64) -> Option<Entry> {
        let at = self.ahead.binary_search_by_key(&position, |entry| entry.position).ok()?;
        self.ahead.get(at).cloned()
    }
}
