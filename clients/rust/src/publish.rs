//! Publishes that are not confirmed yet. Each is sent until it is answered, always under the same id: the broker knows what
//! it has recorded already.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Error,
    backoff::{Backoff, later},
    told::Receipt,
};

/// Those that wait for their turn or their answer; more are refused.
pub(crate) const MOST: usize = 1_024;
/// Those that are on their way; the broker takes 64.
const MOST_IN_FLIGHT: usize = 32;

pub(crate) struct Publish {
    /// The body of its frame.
    pub body: String,
    pub answer: oneshot::Sender<Result<Receipt, Error>>,
    /// Why it was refused for now: that it is not recorded is all that is known of it.
    pub put_off: Arc<Mutex<Option<Error>>>,
}

#[derive(Default)]
pub(crate) struct Publishes {
    /// In the order they came.
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
    in_flight: usize,
}

struct Waiting {
    publish: Publish,
    state: State,
    failures: u32,
}

enum State {
    Waits,
    Sent,
    Rests(Instant),
}

impl Publishes {
    pub(crate) fn add(&mut self, publish: Publish) {
        // Who has given up waiting makes place.
        self.waiting.retain(|_, waiting| matches!(waiting.state, State::Sent) || !waiting.publish.answer.is_closed());
        if self.waiting.len() >= MOST {
            let _ = publish.answer.send(Err(Error::new("too-many", format!("{MOST} events wait already"))));
            return;
        }
        self.last += 1;
        self.waiting.insert(self.last, Waiting { publish, state: State::Waits, failures: 0 });
    }

    /// The next one to send, oldest first: its number and its body.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(u64, String)> {
        if self.in_flight >= MOST_IN_FLIGHT {
            return None;
        }
        let (&number, waiting) = self.waiting.iter_mut().find(|(_, waiting)| match waiting.state {
            State::Waits => true,
            State::Rests(until) => until <= now,
            State::Sent => false,
        })?;
        waiting.state = State::Sent;
        *waiting.publish.put_off.lock() = None;
        self.in_flight += 1;
        Some((number, waiting.publish.body.clone()))
    }

    pub(crate) fn answered(&mut self, number: u64, answer: Result<Value, Error>, backoff: Backoff, now: Instant) {
        let Some(mut waiting) = self.waiting.remove(&number) else { return };
        self.in_flight = self.in_flight.saturating_sub(1);
        let receipt = match answer {
            Err(error) if error.passes() => {
                // The bus is away for a moment, the node has too much to bear, the queue is full.
                let after = error.retry_after().map(later);
                waiting.state = State::Rests(now + backoff.pause(waiting.failures, after));
                waiting.failures += 1;
                *waiting.publish.put_off.lock() = Some(error);
                self.waiting.insert(number, waiting);
                return;
            }
            Err(error) => Err(error),
            Ok(receipt) => serde_json::from_value(receipt)
                .map_err(|error| Error::new("protocol", format!("a receipt can't be read: {error}"))),
        };
        let _ = waiting.publish.answer.send(receipt);
    }

    /// The link is gone, and with it what was on its way: none of that is known to be recorded.
    pub(crate) fn lost(&mut self) {
        self.in_flight = 0;
        for waiting in self.waiting.values_mut().filter(|waiting| matches!(waiting.state, State::Sent)) {
            waiting.state = State::Waits;
        }
    }

    pub(crate) fn end(&mut self, error: &Error) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let _ = waiting.publish.answer.send(Err(error.clone()));
        }
    }

    /// When one has rested.
    pub(crate) fn rests(&self) -> Option<Instant> {
        self.waiting
            .values()
            .filter_map(|waiting| if let State::Rests(until) = waiting.state { Some(until) } else { None })
            .min()
    }
}
