//! A view of each key's last event, on a node that has too much to bear: of a key the newest state, once a second at most.
//!
//! What is overtaken by its key's next event is left out, and all that is told keeps the order of the log. A place is as good as
//! ever: it is that of what was told last, and what is held lies after it, so who is cut off is told that by the next view. What
//! is held is bounded; where there is more, it is told sooner.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Event, Followed, Follower};
use crate::cursor::Cursor;

/// How often a key's state is told.
const PACE: Duration = Duration::from_secs(1);
/// Keys, and bytes of their events, that are held.
const MOST_KEYS: usize = 256;
const MOST_BYTES: usize = 256 * 1024;

/// A follower that may be slowed down, if it is a view.
pub(crate) struct Paced {
    follower: Follower,
    view: Option<Box<Held>>,
}

struct Held {
    /// Each key was told once: before, nothing can be left out.
    caught_up: bool,
    /// What is to be told, oldest first, and where the client is then.
    waiting: VecDeque<(Followed, Cursor)>,
    bytes: usize,
    /// Where the client is, after what was told last.
    place: Cursor,
    /// When what waits is told.
    due: Instant,
    /// All that waits is being told.
    telling: bool,
}

impl Paced {
    pub(crate) fn new(follower: Follower) -> Self {
        let held = || Held {
            caught_up: false,
            waiting: VecDeque::new(),
            bytes: 0,
            place: follower.cursor(),
            due: Instant::now(),
            telling: false,
        };
        let view = follower.is_view().then(|| Box::new(held()));
        Self { follower, view }
    }

    /// See [`Follower::replaying`].
    pub(crate) fn replaying(&self) -> Option<u64> {
        self.follower.replaying()
    }

    /// Where the client is, after what [`Paced::next`] gave last.
    pub(crate) fn cursor(&self) -> Cursor {
        match &self.view {
            Some(held) if !held.waiting.is_empty() => held.place.clone(),
            _ => self.follower.cursor(),
        }
    }

    /// What comes next; waits for it. May be cancelled and called again.
    pub(crate) async fn next(&mut self) -> Followed {
        let Some(held) = &mut self.view else { return self.follower.next().await };
        loop {
            if let Some(due) = held.due() {
                return due;
            }
            let next = if held.waiting.is_empty() {
                self.follower.next().await
            } else {
                match timeout_at(held.due, self.follower.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        held.tell();
                        continue;
                    }
                }
            };
            held.take(next, &self.follower);
        }
    }
}

impl Held {
    /// What waits, while it is being told.
    fn due(&mut self) -> Option<Followed> {
        if !self.telling {
            return None;
        }
        let Some((what, place)) = self.waiting.pop_front() else {
            self.telling = false;
            return None;
        };
        self.bytes -= length(&what);
        self.place = place;
        Some(what)
    }

    /// Takes in what happened: to be told with what waits, or at once.
    fn take(&mut self, next: Followed, follower: &Follower) {
        let waits = match &next {
            Followed::Event(event) if self.caught_up && follower.is_slowed() => {
                self.overtake(event);
                Instant::now() < self.due
            }
            Followed::CaughtUp => {
                self.caught_up = true;
                false
            }
            // What waits lies before it.
            _ => false,
        };
        self.bytes += length(&next);
        self.waiting.push_back((next, follower.cursor()));
        if !waits || self.waiting.len() >= MOST_KEYS || self.bytes >= MOST_BYTES {
            self.tell();
        }
    }

    /// Leaves out what this one overtakes.
    fn overtake(&mut self, event: &Arc<Event>) {
        let is_of_key = |(what, _): &(Followed, Cursor)| match what {
            Followed::Event(other) => {
                let (own, other) = (&event.envelope, &other.envelope);
                own.queue == other.queue && own.key() == other.key()
            }
            _ => false,
        };
        if let Some(at) = self.waiting.iter().position(is_of_key)
            && let Some((what, _)) = self.waiting.remove(at)
        {
            self.bytes -= length(&what);
        }
    }

    fn tell(&mut self) {
        self.telling = true;
        self.due = Instant::now() + PACE;
    }
}

fn length(what: &Followed) -> usize {
    match what {
        Followed::Event(event) => event.json.len(),
        _ => 0,
    }
}
