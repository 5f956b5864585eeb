//! What was heard and is not recorded yet: so many messages, so many bytes, and what comes beyond that is left out.

use std::sync::Arc;

use events::Envelope;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::weight;
use crate::metrics;

/// The most messages, and the most of their bytes in KiB.
const MESSAGES: usize = 10_000;
const KIB: usize = 64 * 1024;
/// What one publish takes.
const BATCH: usize = 256;
const BATCH_KIB: usize = 768;

/// Where messages are put.
pub(super) struct Line {
    sender: mpsc::Sender<(Envelope, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// Where they are taken from.
pub(super) struct Held {
    receiver: mpsc::Receiver<(Envelope, OwnedSemaphorePermit)>,
    /// Taken, and too much for the batch before.
    over: Option<(Envelope, OwnedSemaphorePermit)>,
}

/// Some of them; their room is free when it is dropped.
#[derive(Default)]
pub(super) struct Batch {
    events: Vec<Envelope>,
    /// Of how many it is known what became of them.
    known: usize,
    _room: Vec<OwnedSemaphorePermit>,
}

pub(super) fn waiting() -> (Line, Held) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    (Line { sender, room: Arc::new(Semaphore::new(KIB)) }, Held { receiver, over: None })
}

impl Line {
    /// Whether there was room for it.
    pub fn put(&self, event: Envelope) -> bool {
        let kib = u32::try_from(weight(&event) / 1024).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(kib) else { return false };
        self.sender.try_send((event, room)).is_ok()
    }
}

impl Held {
    /// What there is, as much as one publish takes; waits for the first. None: nothing can come any more.
    pub async fn next(&mut self) -> Option<Batch> {
        let first = match self.over.take() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let (mut batch, mut kib) = (Batch::default(), first.1.num_permits());
        batch.push(first);
        while batch.events.len() < BATCH
            && let Ok(next) = self.receiver.try_recv()
        {
            kib += next.1.num_permits();
            if kib > BATCH_KIB {
                self.over = Some(next);
                break;
            }
            batch.push(next);
        }
        Some(batch)
    }
}

/// What still waits when the turn is over is left out, and counted.
impl Drop for Held {
    fn drop(&mut self) {
        let left = self.over.take().into_iter().chain(std::iter::from_fn(|| self.receiver.try_recv().ok()));
        left.for_each(|(event, _)| metrics::bridged(event.queue.as_str(), "dropped", 1));
    }
}

/// So is what was being published then: whether it was recorded nobody has said.
impl Drop for Batch {
    fn drop(&mut self) {
        while self.known < self.events.len() {
            self.next_is("dropped");
        }
    }
}

impl Batch {
    pub fn events(&self) -> &[Envelope] {
        &self.events
    }

    /// What became of the first of which that wasn't known.
    pub fn next_is(&mut self, result: &'static str) {
        if let Some(event) = self.events.get(self.known) {
            metrics::bridged(event.queue.as_str(), result, 1);
            self.known += 1;
        }
    }

    fn push(&mut self, (event, room): (Envelope, OwnedSemaphorePermit)) {
        self.events.push(event);
        self._room.push(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize, bytes: usize) -> Envelope {
        let name = |name: &str| events::Name::new(name).unwrap();
        Envelope::new("/test", name("DB"), name("A")).id(id.to_string()).binary("a/b", vec![7; bytes])
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_left_out() {
        let (line, mut held) = waiting();
        let put = (0..2 * MESSAGES).filter(|id| line.put(event(*id, 10))).count();
        assert_eq!(put, MESSAGES);
        assert_eq!(held.next().await.unwrap().events().len(), BATCH);
        assert!(line.put(event(0, 10)), "there is room again");
        let (line, _held) = waiting();
        let large = (0..MESSAGES).filter(|id| line.put(event(*id, 200 * 1024))).count();
        assert!((200..300).contains(&large), "{large}");
    }

    #[tokio::test]
    async fn a_batch_is_what_one_publish_takes_in_order() {
        let (line, mut held) = waiting();
        (0..10).for_each(|id| assert!(line.put(event(id, 200 * 1024))));
        let mut ids = Vec::new();
        while ids.len() < 10 {
            let batch = held.next().await.unwrap();
            assert!((1..=3).contains(&batch.events().len()));
            ids.extend(batch.events().iter().map(|event| event.id.parse::<usize>().unwrap()));
        }
        assert_eq!(ids, (0..10).collect::<Vec<_>>());
    }
}
