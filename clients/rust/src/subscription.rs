use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;

use crate::{
    Client, Member, Told,
    follow::{Item, Place},
};

/// What is followed, as a stream of what is told. What was given last counts as done with when the next is asked for. It
/// goes on across every link; after [`Told::Ended`] it is over. Dropping it ends it.
pub struct Subscription {
    client: Client,
    items: mpsc::Receiver<Item>,
    place: Arc<Place>,
    /// Of a room, who was there at joining.
    pub(crate) members: Vec<Member>,
    /// The cursor of what was given last.
    given: Option<String>,
    /// Of what was taken, how much is said at once.
    quarter: usize,
    is_over: bool,
}

impl Subscription {
    pub(crate) fn new(client: Client, items: mpsc::Receiver<Item>, place: Arc<Place>, credit: usize) -> Self {
        let quarter = credit.div_ceil(4);
        Self { client, items, place, members: Vec::new(), given: None, quarter, is_over: false }
    }

    /// After what the program is done with: where another subscription would go on, on any broker of the same bus.
    pub fn cursor(&self) -> Option<String> {
        self.place.cursor()
    }

    /// Of a room, who was there at joining; who comes and goes since is told as `JOINED` and `LEFT`.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    fn give(&mut self, told: Told) -> Poll<Option<Told>> {
        self.given = match &told {
            Told::Event(told) => Some(told.cursor.clone()),
            Told::Gap(gap) => Some(gap.to.clone()),
            Told::CaughtUp { cursor } => Some(cursor.clone()),
            Told::Missed { .. } | Told::Ended(_) => None,
        };
        Poll::Ready(Some(told))
    }
}

impl Stream for Subscription {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        if let Some(cursor) = self.given.take() {
            self.place.done(cursor);
            if self.place.unacknowledged() >= self.quarter {
                self.client.wake();
            }
        }
        loop {
            match self.items.poll_recv(cx) {
                Poll::Ready(Some(Item::Moved(cursor))) => self.place.moved(cursor),
                Poll::Ready(Some(Item::Told(told))) => return self.give(*told),
                Poll::Ready(None) if self.is_over => return Poll::Ready(None),
                Poll::Ready(None) => {
                    self.is_over = true;
                    let error = self.place.take_end();
                    return Poll::Ready(error.map(Told::Ended));
                }
                Poll::Pending => {
                    // What is used up may be acknowledged, and followed further.
                    self.client.wake();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.place.drop_it();
        self.client.wake();
    }
}
