//! The server's side of a stream: what is said waits for its client no longer than a stalled connection does, so that one
//! that reads nothing holds no place for ever. On HTTP/2 a stream may stall whose connection doesn't.

use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tonic::Status;

/// Messages that are written ahead of the client's reading, beside what HTTP/2 itself buffers.
const AHEAD: usize = 1;

pub(super) struct Outward<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    stall: Duration,
}

/// The client is gone, or takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Room for one message.
pub(super) struct Room<'a, T>(mpsc::Permit<'a, Result<T, Status>>);

impl<T: Send + 'static> Outward<T> {
    /// With the stream that is the call's answer.
    pub fn new(stall: Duration) -> (Self, impl Stream<Item = Result<T, Status>> + Send + 'static) {
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        (Self { sender, stall }, stream::poll_fn(move |cx| receiver.poll_recv(cx)))
    }

    /// Waits for room for one message, however long it takes.
    pub async fn room(&self) -> Result<Room<'_, T>, Gone> {
        self.sender.reserve().await.map(Room).map_err(|_| Gone)
    }

    pub async fn say(&self, message: T) -> Result<(), Gone> {
        self.in_time().await.map(|room| room.say(message))
    }

    /// Ends the stream with this status.
    pub async fn end(self, status: Status) {
        // Who doesn't take it is gone.
        if let Ok(Room(permit)) = self.in_time().await {
            permit.send(Err(status));
        }
    }

    async fn in_time(&self) -> Result<Room<'_, T>, Gone> {
        tokio::time::timeout(self.stall, self.room()).await.unwrap_or(Err(Gone))
    }

    /// Returns when the client has gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }
}

impl<T> Room<'_, T> {
    pub fn say(self, message: T) {
        self.0.send(Ok(message));
    }
}
