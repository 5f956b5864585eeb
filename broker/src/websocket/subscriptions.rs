//! The subscriptions of a connection: which of them has something to tell.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _, stream};

use crate::{
    cursor::Cursor,
    durable::Kept,
    told::{Subscriber, Told},
};

type Tellings = Pin<Box<dyn Stream<Item = Told> + Send>>;

#[derive(Default)]
pub(super) struct Subscriptions {
    each: Vec<One>,
    /// Whose turn it is: none holds up the others.
    turn: usize,
}

struct One {
    name: Arc<str>,
    tellings: Tellings,
    /// Of a durable one.
    kept: Option<Kept>,
}

impl Subscriptions {
    pub(super) fn insert(&mut self, name: String, subscriber: Subscriber, kept: Option<Kept>) {
        // A stream keeps what a future began that is dropped when something else comes first.
        let tellings = stream::unfold(subscriber, |mut subscriber| async move {
            let told = subscriber.next().await;
            Some((told, subscriber))
        });
        self.each.push(One { name: name.into(), tellings: Box::pin(tellings), kept });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.each.retain(|one| *one.name != *name);
    }

    /// A durable one was acknowledged up to here.
    pub(super) fn shift(&self, name: &str, cursor: Cursor) {
        if let Some(kept) = self.each.iter().find(|one| *one.name == *name).and_then(|one| one.kept.as_ref()) {
            kept.shift(cursor);
        }
    }

    /// What one of them has to tell that may: the others are not asked.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, may: impl Fn(&str) -> bool) -> Poll<(Arc<str>, Told)> {
        let count = self.each.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let One { name, tellings, .. } = &mut self.each[at];
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
