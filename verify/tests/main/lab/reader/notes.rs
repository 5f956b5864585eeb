//! What a reader was told, as it goes into the history: positions, which the suite reads in cursors, and the cursors
//! themselves, which a client can't read.

use client::{Event, Gap};
use events::Name;
use parking_lot::Mutex;
use verify::{
    History,
    history::{Begins, Filter, Frame, Link, Place, Seen, What},
};

pub(crate) struct Notes {
    history: History,
    reader: String,
    queue: Name,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cursor: Option<String>,
    position: u64,
    events: usize,
    gaps: Vec<Gap>,
    refusals: usize,
}

impl Notes {
    /// Of a reader that begins with all there is.
    pub(crate) fn begin(history: &History, reader: &str, queue: &Name) -> Self {
        let (reader, begins) = (reader.to_owned(), Begins::Earliest);
        let follows = What::Follows { reader: reader.clone(), queue: queue.to_string(), filter: Filter(None), begins };
        history.write(follows);
        Self { history: history.clone(), reader, queue: queue.clone(), state: Mutex::default() }
    }

    /// Where it goes on; None: it was told nothing yet.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.state.lock().cursor.clone()
    }

    /// The last position that it accounts for.
    pub(crate) fn position(&self) -> u64 {
        self.state.lock().position
    }

    pub(crate) fn events(&self) -> usize {
        self.state.lock().events
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.state.lock().gaps.clone()
    }

    /// How often it was sent away.
    pub(crate) fn refusals(&self) -> usize {
        self.state.lock().refusals
    }

    pub(super) fn refused(&self) {
        self.state.lock().refusals += 1;
    }

    pub(crate) fn event(&self, prev: Option<&str>, cursor: &str, event: &Event) {
        let (partition, position) = self.place(cursor);
        let key = event.partitionkey.as_ref().or(event.subject.as_ref()).unwrap_or(&event.id).clone();
        let place = Place { queue: event.queue.clone(), partition, position };
        let seen = Seen { id: event.id.clone(), event: event.event.clone(), key, place };
        self.state.lock().events += 1;
        self.write(Frame::Event(seen), prev, cursor);
    }

    pub(super) fn gap(&self, gap: &Gap) {
        let (from, to) = (self.place(&gap.from).1 + 1, self.place(&gap.to).1 + 1);
        self.state.lock().gaps.push(gap.clone());
        self.write(Frame::Gap { from, to, lost: gap.lost, reason: gap.reason.clone() }, Some(&gap.from), &gap.to);
    }

    pub(super) fn caught_up(&self, cursor: &str) {
        self.write(Frame::CaughtUp, None, cursor);
    }

    /// It is here, if it isn't known to be.
    pub(super) fn idle(&self, cursor: &str) {
        if self.cursor().as_deref() != Some(cursor) {
            self.write(Frame::Idle, None, cursor);
        }
    }

    /// Something was told after another place than where it is.
    pub(super) fn missed(&self, expected: &str, got: &str) {
        self.write(Frame::Idle, Some(got), expected);
    }

    fn write(&self, frame: Frame, prev: Option<&str>, cursor: &str) {
        let (partition, position) = self.place(cursor);
        let link = Some(Link { prev: prev.map(str::to_owned), cursor: cursor.to_owned() });
        let mut state = self.state.lock();
        (state.cursor, state.position) = (Some(cursor.to_owned()), position);
        self.history.write(What::Frame { reader: self.reader.clone(), partition, frame, link });
    }

    /// The partition and the position; 0 of a queue that isn't there yet. Cases have queues with one partition.
    fn place(&self, cursor: &str) -> (u32, u64) {
        let cursor = broker::read_cursor(cursor, &self.queue).expect("a cursor of the queue");
        cursor.places().next().map_or((0, 0), |(partition, _, position)| (partition, position))
    }
}
