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
    /// It was sent once without an answer that tells: it may be recorded.
    unsure: bool,
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
        self.waiting.insert(self.last, Waiting { publish, state: State::Waits, failures: 0, unsure: false });
    }

    /// The next one to send, oldest first: its number and its body.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(u64, String)> {
        while self.in_flight < MOST_IN_FLIGHT {
            let (&number, waiting) = self.waiting.iter_mut().find(|(_, waiting)| match waiting.state {
                State::Waits => true,
                State::Rests(until) => until <= now,
                State::Sent => false,
            })?;
            *waiting.publish.put_off.lock() = None;
            // Who has given up was told why, and may publish it again under another id.
            if waiting.publish.answer.is_closed() {
                self.waiting.remove(&number);
                continue;
            }
            waiting.state = State::Sent;
            self.in_flight += 1;
            return Some((number, waiting.publish.body.clone()));
        }
        None
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
                // The bus may have been lost with the answer.
                waiting.unsure |= error.code() == "unavailable";
                *waiting.publish.put_off.lock() = (!waiting.unsure).then_some(error);
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
            waiting.unsure = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: std::time::Duration::ZERO, most: std::time::Duration::ZERO };

    type Answered = oneshot::Receiver<Result<Receipt, Error>>;
    type PutOff = Arc<Mutex<Option<Error>>>;

    fn publish() -> (Publish, Answered, PutOff) {
        let ((answer, answered), put_off) = (oneshot::channel(), PutOff::default());
        (Publish { body: String::new(), answer, put_off: put_off.clone() }, answered, put_off)
    }

    fn full() -> Error {
        Error::new("queue-full", "").after(Some(std::time::Duration::from_secs(1)))
    }

    #[tokio::test]
    async fn who_has_given_up_waiting_publishes_nothing_any_more() {
        let (mut publishes, now) = (Publishes::default(), Instant::now());
        let ((gone, answered, _), (stays, _waits, _)) = (publish(), publish());
        publishes.add(gone);
        publishes.add(stays);
        let (number, _) = publishes.next(now).unwrap();
        publishes.answered(number, Err(full()), BACKOFF, now);
        drop(answered);
        let later = now + std::time::Duration::from_secs(3600);
        assert_eq!(publishes.next(later).map(|(number, _)| number), Some(2));
        assert_eq!(publishes.next(later), None, "the first is not sent again");
    }

    #[tokio::test]
    async fn refused_is_said_of_what_can_not_have_been_recorded_alone() {
        for (before, is_known) in [(None, true), (Some(Error::new("unavailable", "")), false)] {
            let (mut publishes, now) = (Publishes::default(), Instant::now());
            let (one, _answered, put_off) = publish();
            publishes.add(one);
            let later = now + std::time::Duration::from_secs(3600);
            for error in before.into_iter().chain([full()]) {
                let (number, _) = publishes.next(later).unwrap();
                publishes.answered(number, Err(error), BACKOFF, now);
            }
            assert_eq!(put_off.lock().is_some(), is_known);
        }
        let (mut publishes, now) = (Publishes::default(), Instant::now());
        let (one, _answered, put_off) = publish();
        publishes.add(one);
        publishes.next(now).unwrap();
        publishes.lost();
        let (number, _) = publishes.next(now).unwrap();
        publishes.answered(number, Err(full()), BACKOFF, now);
        assert!(put_off.lock().is_none(), "the answer that was lost may have been a receipt");
    }
}
