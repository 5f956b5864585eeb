//! One subscription, as the worker has it. It outlives every link: it knows after what it was told last, and is resumed
//! there on the next one, once what came by the former is used up: so what waits for the program has an end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Error, Follow,
    backoff::{Backoff, later},
    told::Told,
};

/// Gaps and the like that may wait beside the events that the credit allows.
const MOST_WORDS: usize = 64;

/// What goes to the program.
pub(crate) enum Item {
    Told(Box<Told>),
    /// Nothing but the place has changed.
    Moved(String),
}

/// How far the program is. Its subscription writes it, the worker reads it.
#[derive(Default)]
pub(crate) struct Place {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// After what is done with.
    cursor: Option<String>,
    /// Of what was told, how much since the last acknowledgement.
    done: usize,
    /// The program has dropped it.
    over: bool,
    /// Why there will be no more.
    ended: Option<Error>,
}

impl Place {
    pub(crate) fn done(&self, cursor: String) {
        let mut inner = self.inner.lock();
        inner.cursor = Some(cursor);
        inner.done += 1;
    }

    pub(crate) fn moved(&self, cursor: String) {
        self.inner.lock().cursor = Some(cursor);
    }

    pub(crate) fn cursor(&self) -> Option<String> {
        self.inner.lock().cursor.clone()
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.inner.lock().done
    }

    pub(crate) fn drop_it(&self) {
        self.inner.lock().over = true;
    }

    pub(crate) fn take_end(&self) -> Option<Error> {
        self.inner.lock().ended.take()
    }

    fn begin(&self, cursor: &str) {
        let mut inner = self.inner.lock();
        inner.cursor.get_or_insert_with(|| cursor.to_owned());
    }
}

/// What is asked for.
pub(crate) enum Wish {
    Filter(String),
    Room(String),
}

pub(crate) struct Followed {
    pub name: String,
    wish: Wish,
    options: Follow,
    state: State,
    /// The id of the frame that asked for it last.
    pub asked: u64,
    /// After what was received last.
    last: Option<String>,
    acknowledged: Option<String>,
    items: mpsc::Sender<Item>,
    place: Arc<Place>,
    /// Told once that it follows, or why not.
    ready: Option<oneshot::Sender<Result<Value, Error>>>,
    rests: Option<Instant>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Opening,
    Live,
}

/// The other end of a [`Followed`].
pub(crate) struct Ends {
    pub items: mpsc::Receiver<Item>,
    pub place: Arc<Place>,
    pub ready: oneshot::Receiver<Result<Value, Error>>,
}

/// What is to be done at the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Nothing,
    /// It isn't followed any more there.
    Leave,
}

impl Followed {
    pub(crate) fn new(name: String, wish: Wish, options: Follow) -> (Self, Ends) {
        let (items, received) = mpsc::channel(options.credit + MOST_WORDS);
        let (ready, told) = oneshot::channel();
        let place = Arc::new(Place::default());
        let ends = Ends { items: received, place: place.clone(), ready: told };
        let followed = Self {
            name,
            wish,
            options,
            state: State::Idle,
            asked: 0,
            last: None,
            acknowledged: None,
            items,
            place,
            ready: Some(ready),
            rests: None,
            failures: 0,
        };
        (followed, ends)
    }

    /// Verb and body of the frame that asks for it, if it is time to ask.
    pub(crate) fn asks(&mut self, now: Instant) -> Option<(&'static str, Value)> {
        let rests = self.rests.is_some_and(|until| now < until);
        if self.state != State::Idle || rests || !self.is_drained() {
            return None;
        }
        self.state = State::Opening;
        self.rests = None;
        let Follow { credit, latest, durable, .. } = &self.options;
        let mut body = json!({ "credit": credit });
        // A durable one's place is kept from then on: what is in hand may not be done with.
        let done = if *durable { self.place.inner.lock().cursor.clone() } else { None };
        if let Some(cursor) = done.as_ref().or(self.last.as_ref()).or(self.options.from.as_ref()) {
            body["cursor"] = json!(cursor);
        }
        Some(match &self.wish {
            Wish::Room(room) => {
                body["room"] = json!(room);
                ("join", body)
            }
            Wish::Filter(filter) => {
                body["name"] = json!(self.name);
                body["filter"] = json!(filter);
                if *latest {
                    body["view"] = json!("latest");
                }
                if *durable {
                    body["durable"] = json!(true);
                }
                ("sub", body)
            }
        })
    }

    /// The frame that ends it, if there is something to end.
    pub(crate) fn leaves(&mut self) -> Option<(&'static str, Value)> {
        if std::mem::replace(&mut self.state, State::Idle) == State::Idle {
            return None;
        }
        Some(self.leave())
    }

    pub(crate) fn leave(&self) -> (&'static str, Value) {
        match &self.wish {
            Wish::Room(room) => ("leave", json!({ "room": room })),
            Wish::Filter(_) => ("unsub", json!({ "sub": self.name })),
        }
    }

    pub(crate) fn opened(&mut self, ok: Value) {
        if self.state != State::Opening {
            return;
        }
        self.state = State::Live;
        if let Some(cursor) = ok["cursor"].as_str() {
            self.last = Some(cursor.to_owned());
            self.acknowledged = Some(cursor.to_owned());
            self.place.begin(cursor);
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(ok));
        }
    }

    /// It is not followed, for now or (true) for good.
    pub(crate) fn refused(&mut self, error: Error, backoff: Backoff, now: Instant) -> bool {
        if self.state != State::Opening {
            return false;
        }
        self.state = State::Idle;
        if error.passes() {
            self.rest(error.retry_after(), backoff, now);
            return false;
        }
        self.end(error);
        true
    }

    /// There will be no more.
    pub(crate) fn end(&mut self, error: Error) {
        match self.ready.take() {
            Some(ready) => _ = ready.send(Err(error)),
            None => self.place.inner.lock().ended = Some(error),
        }
    }

    pub(crate) fn lost(&mut self) {
        self.state = State::Idle;
    }

    /// Something was told, after `prev` if that is known.
    pub(crate) fn take(
        &mut self,
        item: Item,
        prev: Option<&str>,
        cursor: &str,
        backoff: Backoff,
        now: Instant,
    ) -> Step {
        if self.state != State::Live {
            return Step::Nothing;
        }
        if let (Some(last), Some(prev)) = (&self.last, prev)
            && last != prev
        {
            let missed = Told::Missed { expected: last.clone(), got: prev.to_owned() };
            // Where there is no place for this word, what was missed is read again all the same.
            let _ = self.items.try_send(Item::Told(Box::new(missed)));
            self.state = State::Idle;
            self.rest(None, backoff, now);
            return Step::Leave;
        }
        let moved = matches!(item, Item::Moved(_));
        if self.items.try_send(item).is_err() {
            // More than the program has credit for, or nobody there: from the log later.
            self.state = State::Idle;
            return Step::Leave;
        }
        self.last = Some(cursor.to_owned());
        if !moved {
            self.failures = 0;
        }
        Step::Nothing
    }

    /// The acknowledgement that is due: a quarter of the credit is used, or nothing else waits to be taken.
    pub(crate) fn acknowledges(&mut self) -> Option<Value> {
        if self.state != State::Live {
            return None;
        }
        let drained = self.is_drained();
        let mut inner = self.place.inner.lock();
        if inner.cursor == self.acknowledged || !(drained || inner.done >= self.options.credit.div_ceil(4)) {
            return None;
        }
        inner.done = 0;
        self.acknowledged.clone_from(&inner.cursor);
        Some(json!({ "sub": self.name, "cursor": inner.cursor }))
    }

    /// It follows.
    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    pub(crate) fn is_over(&self) -> bool {
        self.place.inner.lock().over
    }

    pub(crate) fn rests(&self) -> Option<Instant> {
        self.rests.filter(|_| self.state == State::Idle && self.is_drained())
    }

    fn is_drained(&self) -> bool {
        self.items.capacity() == self.items.max_capacity()
    }

    fn rest(&mut self, after: Option<Duration>, backoff: Backoff, now: Instant) {
        self.rests = Some(now + backoff.pause(self.failures, after.map(later)));
        self.failures = self.failures.saturating_add(1);
    }
}
