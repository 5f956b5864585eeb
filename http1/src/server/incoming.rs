//! The connection's end of a request's body: reads as much as is wanted, and passes over what nobody wants.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Phase, Service, Verdict,
    body::{BodyError, Fate, RequestBody, Shared},
    connection::Connection,
    gone,
};
use crate::{
    Length, buffer,
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
        let fate = Fate::new(Arc::clone(&shared));
        Some((incoming, RequestBody::new(shared, left), fate))
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
            let passed = before - connection.input.len();
            *discarded += passed as u64;
            if self.is_over() {
                continue;
            }
            if *discarded > DISCARDED {
                return Poll::Ready(Ok(false));
            }
            // Small chunks are taken a few at a time: more of them may be there, and nothing else to come.
            if passed > 0 {
                continue;
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
        self.abandon();
    }
}
