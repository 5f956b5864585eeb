//! The subscriptions of a connection: which of them has something to tell.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _, stream};

use crate::told::{Subscriber, Told};

type Tellings = Pin<Box<dyn Stream<Item = Told> + Send>>;

#[derive(Default)]
pub(super) struct Subscriptions {
    each: Vec<(String, Tellings)>,
    /// Whose turn it is: none holds up the others.
    turn: usize,
}

impl Subscriptions {
    pub(super) fn insert(&mut self, name: String, subscriber: Subscriber) {
        // A stream keeps what a future began that is dropped when something else comes first.
        let tellings = stream::unfold(subscriber, |mut subscriber| async move {
            let told = subscriber.next().await;
            Some((told, subscriber))
        });
        self.each.push((name, Box::pin(tellings)));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.each.retain(|(other, _)| other != name);
    }

    /// What one of them has to tell that may: the others are not asked.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, may: impl Fn(&str) -> bool) -> Poll<(String, Told)> {
        let count = self.each.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let (name, tellings) = &mut self.each[at];
            if may(name)
                && let Poll::Ready(Some(told)) = tellings.poll_next_unpin(cx)
            {
                self.turn = at + 1;
                return Poll::Ready((name.clone(), told));
            }
        }
        Poll::Pending
    }
}
