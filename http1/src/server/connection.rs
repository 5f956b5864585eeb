//! The connection's bytes: what was read and not yet understood, what is to be written.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Phase, Refusal, Service, Verdict, gone};
use crate::{
    buffer,
    field::Seen,
    request::{Limits, Reader},
};

/// A frame of a body up to this is copied behind what is to be written, a larger one stands beside it.
const COPIED: usize = 4 << 10;
/// How long a client is waited for at the end, and for how many bytes it is listened to that is to read why it isn't.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

pub(super) struct Connection<T> {
    io: T,
    pub input: BytesMut,
    /// Heads, and small frames of bodies; so much of it is written.
    output: Vec<u8>,
    written: usize,
    /// What is written after it, and what after that.
    data: Bytes,
    tail: &'static [u8],
    needs_flush: bool,
    phase: Phase,
}

/// What there is to be done next.
pub(super) enum Head {
    Request(Request<()>, Seen),
    Refused(Refusal),
    /// Nothing any more.
    None,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub fn new(io: T) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            output: Vec::new(),
            written: 0,
            data: Bytes::new(),
            tail: b"",
            needs_flush: false,
            phase: Phase::Head,
        }
    }

    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut Reader,
        service: &impl Service,
        limits: &Limits,
    ) -> Poll<io::Result<Head>> {
        loop {
            match reader.next_seen(&mut self.input, limits) {
                Ok(Some((request, seen))) => {
                    self.enter(Phase::Busy, service);
                    return Poll::Ready(Ok(Head::Request(request, seen)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Ok(Head::Refused(error.into()))),
            }
            match self.poll_read(context, buffer::SIZE) {
                // Whoever goes away in the middle of a head wants no answer.
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Head::None)),
                Poll::Ready(Ok(_)) => self.enter(Phase::Head, service),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        let has_begun = !self.input.is_empty();
        match service.verdict(context) {
            Verdict::Late if has_begun => return Poll::Ready(Ok(Head::Refused(Refusal::TooSlow))),
            Verdict::Drain | Verdict::Late if !has_begun => return Poll::Ready(Ok(Head::None)),
            _ => {}
        }
        if !has_begun {
            self.free();
        }
        Poll::Pending
    }

    /// Reads more, so much at most as there is room for.
    pub fn poll_read(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = buffer::input();
        } else if self.input.capacity() - self.input.len() < room / 4 {
            self.input.reserve(room);
        }
        pin!(self.io.read_buf(&mut self.input)).poll(context)
    }

    /// Ready if the client went away while nothing was expected of it. What it sends meanwhile waits.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() && matches!(ready!(self.poll_read(context, 1)), Ok(0) | Err(_)) {
            return gone();
        }
        Poll::Pending
    }

    /// Where a head is written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = buffer::output();
        }
        &mut self.output
    }

    /// Whether more of a body may be put behind what is to be written.
    pub fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.output.len() - self.written < 4 * COPIED
    }

    /// Puts a part of a body behind what is to be written, then what ends it.
    pub fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        debug_assert!(self.data.is_empty() && self.tail.is_empty(), "there is no room");
        if data.len() <= COPIED || !self.io.is_write_vectored() {
            let output = self.output();
            output.extend_from_slice(&data);
            output.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Ready when all is written.
    pub fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() || !self.data.is_empty() || !self.tail.is_empty() {
            let io = Pin::new(&mut self.io);
            let output = &self.output[self.written..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(io.poll_write(context, output))?
            } else {
                let slices = [IoSlice::new(output), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(io.poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.advance(written);
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_output = written.min(self.output.len() - self.written);
        self.written += of_output;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        let of_data = (written - of_output).min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // It may be a slice of something large.
            self.data = Bytes::new();
        }
        self.tail = &self.tail[written - of_output - of_data..];
    }

    pub fn enter(&mut self, phase: Phase, service: &impl Service) {
        if self.phase != phase {
            self.phase = phase;
            service.enter(phase);
        }
    }

    /// An answer is through; the next head may already be there.
    pub fn settle(&mut self, service: &impl Service) {
        self.enter(if self.input.is_empty() { Phase::Idle } else { Phase::Head }, service);
    }

    fn free(&mut self) {
        buffer::free_input(std::mem::take(&mut self.input));
        buffer::free_output(std::mem::take(&mut self.output));
    }

    pub fn into_parts(mut self) -> (T, Bytes) {
        buffer::free_output(self.output);
        (self.io, self.input.split().freeze())
    }

    pub async fn close(mut self) -> io::Result<()> {
        self.free();
        // TLS has last words, for which a client that doesn't read may leave no room.
        tokio::time::timeout(LINGER, self.io.shutdown()).await.unwrap_or(Ok(()))
    }

    /// Closes with care. Bytes that nobody has read when a socket closes make the kernel reset the connection, and the
    /// client would lose the answer that tells it what is wrong.
    pub async fn linger(mut self) -> io::Result<()> {
        let discard = async {
            self.io.shutdown().await?;
            let mut left = LINGER_BYTES;
            while left > 0 {
                self.input.clear();
                self.input.reserve(buffer::SIZE);
                match self.io.read_buf(&mut self.input).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            Ok(())
        };
        tokio::time::timeout(LINGER, discard).await.unwrap_or(Ok(()))
    }
}
