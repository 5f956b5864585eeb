//! A queue on the board: its tally with the cursor it is true of, and what the page is told beside it.

use std::collections::BTreeMap;

use bus::Cursor;
use events::Name;

use crate::{
    tally::Tally,
    view::{EventTold, Log, QueueTold, State},
    window::Window,
};

#[derive(Debug)]
pub(crate) struct QueueLine {
    pub tally: Tally,
    /// None until something was read.
    pub cursor: Option<Cursor>,
    /// The tally's progress that is on disk.
    pub saved: u64,
    pub state: State,
    pub log: Log,
    minutes: BTreeMap<Name, Minute>,
    /// The board's version in which something of the queue changed last.
    pub changed: u64,
}

#[derive(Debug, Default)]
struct Minute {
    window: Window,
    minute: u32,
    lately: u32,
    changed: u64,
}

impl QueueLine {
    pub fn new(version: u64) -> Self {
        Self {
            tally: Tally::default(),
            cursor: None,
            saved: 0,
            state: State::CatchingUp,
            log: Log::default(),
            minutes: BTreeMap::new(),
            changed: version,
        }
    }

    /// What was kept of it.
    pub fn restored(tally: Tally, cursor: Cursor, version: u64) -> Self {
        let saved = tally.progress();
        let of = |name: &Name| (name.clone(), Minute { changed: version, ..Minute::default() });
        let minutes = tally.events.keys().map(of).collect();
        Self { tally, cursor: Some(cursor), saved, minutes, ..Self::new(version) }
    }

    /// Counts an event that was recorded in that second.
    pub fn count(&mut self, event: &Name, second: i64, version: u64) {
        self.changed = version;
        if self.tally.count(event) {
            let minute = self.minutes.entry(event.clone()).or_default();
            minute.window.count(second);
            minute.changed = version;
        }
    }

    /// Lets the minutes end with this second; whether that changed anything.
    pub fn pass(&mut self, now: i64, version: u64) -> bool {
        let mut any = false;
        for minute in self.minutes.values_mut() {
            let sums = (minute.window.minute(now), minute.window.lately(now));
            if sums != (minute.minute, minute.lately) {
                (minute.minute, minute.lately) = sums;
                (minute.changed, any) = (version, true);
            }
        }
        if any {
            self.changed = version;
        }
        any
    }

    /// What changed after a version of the board.
    pub fn told(&self, after: u64) -> Option<QueueTold<'_>> {
        if self.changed <= after {
            return None;
        }
        let changed = self.minutes.iter().filter(|(_, minute)| minute.changed > after);
        let events = changed.map(|(name, minute)| {
            let count = self.tally.events.get(name).copied().unwrap_or(0);
            (name.as_str(), EventTold { count, minute: minute.minute, lately: minute.lately })
        });
        Some(QueueTold {
            total: self.tally.total(),
            others: self.tally.others,
            state: &self.state,
            missing: &self.tally.missing,
            log: self.log,
            events: events.collect(),
        })
    }
}
