//! A request's body, as the service reads it.
//!
//! Only the task of the connection reads from the client, and only when the body is wanted: a service that stops reading
//! slows the client down. What had come with the head is there before the service is called.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use crate::Error;

/// Why a body broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is not well formed: {0}")]
    Malformed(#[from] Error),
    #[error("the request body took too long to arrive")]
    TooSlow,
    #[error("the connection ended before the request body")]
    Closed,
}

/// The body of a request.
#[derive(Debug, Default)]
pub struct RequestBody {
    /// None: there is none.
    shared: Option<Shared>,
    /// Bytes that are still to be read, if the head told.
    left: Option<u64>,
}

/// Tells why a request's body broke off, if it did, to whoever gave the body away. In the extensions of requests that
/// have a body.
#[derive(Clone, Debug)]
pub struct Fate(Shared);

pub(super) type Shared = Arc<Mutex<State>>;

/// What both ends of a body know.
#[derive(Debug, Default)]
pub(super) struct State {
    pub frames: VecDeque<Frame<Bytes>>,
    /// What follows the frames.
    pub end: Option<Result<(), BodyError>>,
    pub is_wanted: bool,
    /// Nobody reads it any more.
    pub is_dropped: bool,
    pub reader: Option<Waker>,
    pub connection: Option<Waker>,
    /// The task of the connection is at it, and will look by itself.
    pub is_attended: bool,
}

impl RequestBody {
    /// `left`: its length, if that is known.
    pub(super) fn new(shared: Shared, left: Option<u64>) -> Self {
        Self { shared: Some(shared), left }
    }
}

impl Fate {
    pub(super) fn new(shared: Shared) -> Self {
        Self(shared)
    }

    /// What a reader of the body was told, or would be.
    pub fn error(&self) -> Option<BodyError> {
        self.0.lock().end.clone()?.err()
    }
}

impl State {
    fn call_connection(&self) {
        if !self.is_attended
            && let Some(connection) = &self.connection
        {
            connection.wake_by_ref();
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(shared) = &self.shared else { return Poll::Ready(None) };
        let mut state = shared.lock();
        if let Some(frame) = state.frames.pop_front() {
            drop(state);
            if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                *left = left.saturating_sub(data.len() as u64);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                    state.reader = Some(context.waker().clone());
                }
                state.is_wanted = true;
                state.call_connection();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let state = shared.lock();
            state.frames.is_empty() && state.end == Some(Ok(()))
        })
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.shared, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            (_, None) => SizeHint::default(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            state.is_dropped = true;
            state.frames.clear();
        }
    }
}
