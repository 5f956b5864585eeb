//! A request's body: the end that the connection fills, and the end that the service reads.
//!
//! Only the task of the connection reads from it, and only when the body is wanted: a service that stops reading slows the
//! client down. What had come with the head is there before the service is called.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Phase, Service, Verdict, connection::Connection, gone};
use crate::{
    Error, Length, buffer,
    chunked::{Decoder, Step},
    field::Limits,
};

/// Frames that wait to be read, at most; a client can make them small.
const FRAMES: usize = 32;
/// What there is room for in a read where much keeps coming.
const LARGEST_READ: usize = 64 << 10;
/// What is read of a body that nobody wants any more, so that the connection can be used again.
const DISCARDED: u64 = 64 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

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

type Shared = Arc<Mutex<State>>;

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame<Bytes>>,
    /// What follows the frames.
    end: Option<Result<(), BodyError>>,
    is_wanted: bool,
    /// Nobody reads it any more.
    is_dropped: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
    /// The task of the connection is at it, and will look by itself.
    is_attended: bool,
}

impl Fate {
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

/// The connection's end.
pub(super) struct Incoming {
    shared: Shared,
    coding: Coding,
    /// The client may wait to be told to send it.
    expects_continue: bool,
    has_failed: bool,
    trailers: Limits,
    /// What there is room for at the next read.
    room: usize,
}

enum Coding {
    /// So many bytes are left.
    Exact(u64),
    Chunked(Decoder),
    /// Nothing more will come, or nothing that could be understood.
    Over,
}

impl Incoming {
    /// Both ends, with what is there already; None where there is no body.
    pub fn new(length: Length, expects_continue: bool, input: &mut BytesMut) -> Option<(Self, RequestBody, Fate)> {
        let (coding, left) = match length {
            Length::NONE | Length::UntilClose => return None,
            Length::Exact(left) => (Coding::Exact(left), Some(left)),
            Length::Chunked => (Coding::Chunked(Decoder::default()), None),
        };
        let shared = Shared::default();
        let mut incoming = Self {
            shared: Arc::clone(&shared),
            coding,
            expects_continue,
            has_failed: false,
            trailers: Limits { total: 8 << 10, count: 32, one: 4 << 10 },
            room: buffer::SIZE,
        };
        incoming.decode(input);
        let fate = Fate(Arc::clone(&shared));
        Some((incoming, RequestBody { shared: Some(shared), left }, fate))
    }

    /// Whether nothing more of it will be read.
    pub fn is_over(&self) -> bool {
        matches!(self.coding, Coding::Over)
    }

    /// Whether the connection can go on after this body, if nobody reads the rest of it.
    pub fn can_be_passed(&self) -> bool {
        if self.is_over() {
            return !self.has_failed;
        }
        if self.expects_continue {
            // The client may send it or leave it.
            return false;
        }
        !self.shared.lock().is_dropped || !matches!(self.coding, Coding::Exact(left) if left > DISCARDED)
    }

    /// The task of the connection is about to run what may read the body.
    pub fn attend(&self, context: &Context<'_>) {
        let mut state = self.shared.lock();
        state.is_attended = true;
        if !state.connection.as_ref().is_some_and(|own| own.will_wake(context.waker())) {
            state.connection = Some(context.waker().clone());
        }
    }

    /// Has run it. Reads more if more is wanted, and tells whether more is there now. `is_answered`: it is too late to ask
    /// for a body that the client holds back.
    pub fn feed<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
        service: &impl Service,
        is_answered: bool,
    ) -> io::Result<bool> {
        let is_wanted = {
            let mut state = self.shared.lock();
            state.is_attended = false;
            state.is_wanted && !state.is_dropped && state.frames.is_empty()
        };
        if self.is_over() || !is_wanted {
            return Ok(false);
        }
        loop {
            if self.decode(&mut connection.input) {
                connection.enter(Phase::Busy, service);
                self.deliver(context);
                return Ok(true);
            }
            if !is_answered && std::mem::take(&mut self.expects_continue) && connection.input.is_empty() {
                connection.output().extend_from_slice(CONTINUE);
                // Should the client not take so much: the rest goes with the answer.
                _ = connection.poll_write(context)?;
            }
            match connection.poll_read(context, self.room) {
                Poll::Ready(read) => match read? {
                    0 => {
                        self.end(Err(BodyError::Closed));
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    read if read >= self.room => self.room = (self.room * 2).min(LARGEST_READ),
                    _ => {}
                },
                Poll::Pending if service.verdict(context) == Verdict::Late => {
                    self.end(Err(BodyError::TooSlow));
                    self.deliver(context);
                    return Ok(true);
                }
                Poll::Pending => {
                    connection.enter(Phase::Receiving, service);
                    return Ok(false);
                }
            }
        }
    }

    /// Reads what nobody wants, so that the connection can be used again. False: it is more than that is worth.
    pub fn poll_discard<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
        service: &impl Service,
        discarded: &mut u64,
    ) -> Poll<io::Result<bool>> {
        loop {
            if self.is_over() || self.expects_continue {
                return Poll::Ready(Ok(self.can_be_passed()));
            }
            self.abandon();
            let before = connection.input.len();
            self.decode(&mut connection.input);
            *discarded += (before - connection.input.len()) as u64;
            if self.is_over() {
                continue;
            }
            if *discarded > DISCARDED {
                return Poll::Ready(Ok(false));
            }
            match connection.poll_read(context, self.room) {
                Poll::Ready(Ok(0)) => return gone(),
                Poll::Ready(read) => _ = read?,
                Poll::Pending if service.verdict(context) == Verdict::Late => return Poll::Ready(Ok(false)),
                Poll::Pending => {
                    connection.enter(Phase::Receiving, service);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes what is there off the input. True: a reader would find something new.
    fn decode(&mut self, input: &mut BytesMut) -> bool {
        let mut state = self.shared.lock();
        let (mut is_new, is_dropped) = (false, state.is_dropped);
        let mut push = |frame| {
            if !is_dropped {
                state.frames.push_back(frame);
            }
            is_new = true;
        };
        let mut end = None;
        match &mut self.coding {
            Coding::Exact(left) => {
                if !input.is_empty() {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= length as u64;
                    push(Frame::data(input.split_to(length).freeze()));
                }
                if *left == 0 {
                    end = Some(Ok(()));
                }
            }
            Coding::Chunked(decoder) => {
                for _ in 0..FRAMES {
                    match decoder.decode(input, &self.trailers) {
                        Ok(Step::Data(data)) => push(Frame::data(data)),
                        Ok(Step::Trailers(trailers)) => push(Frame::trailers(trailers)),
                        Ok(Step::More) => break,
                        Ok(Step::End) => {
                            end = Some(Ok(()));
                            break;
                        }
                        Err(error) => {
                            end = Some(Err(error.into()));
                            break;
                        }
                    }
                }
            }
            Coding::Over => {}
        }
        drop(state);
        match end {
            Some(end) => {
                self.end(end);
                true
            }
            None => is_new,
        }
    }

    fn end(&mut self, end: Result<(), BodyError>) {
        self.coding = Coding::Over;
        self.has_failed = end.is_err();
        self.shared.lock().end.get_or_insert(end);
    }

    /// Nobody is to get more of it.
    fn abandon(&self) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.is_dropped, true) {
            state.end.get_or_insert(Err(BodyError::Closed));
            let reader = state.reader.take();
            drop(state);
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// Wakes the reader, if it is another task than this one.
    fn deliver(&self, context: &Context<'_>) {
        let mut state = self.shared.lock();
        state.is_wanted = false;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader
            && !reader.will_wake(context.waker())
        {
            reader.wake();
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.lock().connection = None;
        if !self.is_over() {
            self.abandon();
        }
    }
}
