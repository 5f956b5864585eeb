//! What a client's connection is doing, noted where the watchdog reads it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};

use ::http1::server::Verdict;
use futures_util::task::AtomicWaker;
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{known::Known, open::Open, stream::Stream};
use crate::{
    config::{Limits, Patience},
    layers::request_id::Peer,
};

/// A connection's notes. Only its own task makes them: loads and stores need not be one.
pub struct Activity {
    clock: Arc<AtomicU64>,
    limits: Arc<Limits>,
    /// The phase in the lowest bits, the tick at which it began above them.
    state: AtomicU64,
    /// The tick at which the request's head began.
    begun: AtomicU64,
    /// Bytes that passed, in either direction.
    moved: AtomicU64,
    /// What goes out is a stream of events, which its client may take as it likes.
    is_stream: AtomicBool,
    draining: AtomicBool,
    late: AtomicBool,
    is_cut: AtomicBool,
    connection: AtomicWaker,
    known: OnceLock<Known>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client may begin a request.
    Idle,
    /// It has, and its head isn't complete.
    Head,
    /// Not for the client.
    Busy,
    /// The client is to send more of a request's body.
    Receiving,
    /// The client is to take more of an answer.
    Sending,
    /// Many requests at once (HTTP/2), of which others take care.
    Multiplexed,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Idle, Self::Head, Self::Busy, Self::Receiving, Self::Sending, Self::Multiplexed];
    const BITS: u32 = 3;
}

impl From<::http1::server::Phase> for Phase {
    fn from(phase: ::http1::server::Phase) -> Self {
        match phase {
            ::http1::server::Phase::Idle => Self::Idle,
            ::http1::server::Phase::Head => Self::Head,
            ::http1::server::Phase::Busy => Self::Busy,
            ::http1::server::Phase::Receiving => Self::Receiving,
            ::http1::server::Phase::Sending => Self::Sending,
        }
    }
}

impl Activity {
    /// Of a new connection, whose first head is due.
    pub fn new(clock: Arc<AtomicU64>, limits: Arc<Limits>) -> Self {
        let activity = Self {
            clock,
            limits,
            state: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            is_stream: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            late: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            connection: AtomicWaker::new(),
            known: OnceLock::new(),
        };
        activity.enter(Phase::Head);
        activity
    }

    pub fn enter(&self, phase: Phase) {
        let now = self.clock.load(Relaxed);
        if phase == Phase::Head {
            self.begun.store(now, Relaxed);
            self.is_stream.store(false, Relaxed);
            // It came in time after all: right before the connection would have looked.
            self.late.store(false, Relaxed);
        }
        self.state.store(now << Phase::BITS | phase as u64, Relaxed);
    }

    /// A request comes; with the first, it is known who speaks.
    pub fn speaks(&self, peer: &Peer, version: Version) {
        self.known.get_or_init(|| Known::of(peer, version));
    }

    pub fn known(&self) -> Option<&Known> {
        self.known.get()
    }

    pub fn multiplexed(&self) {
        self.enter(Phase::Multiplexed);
    }

    /// What goes out from now on is a stream of events.
    pub fn streams(&self) {
        self.is_stream.store(true, Relaxed);
    }

    /// The connection is to end when what is under way on it is answered.
    pub fn finish(&self) {
        self.draining.store(true, Release);
        self.connection.wake();
    }

    /// The client took too long.
    pub fn expire(&self) {
        self.late.store(true, Release);
        self.connection.wake();
    }

    /// The client took too long over what was sent to it: the connection is about to be dropped.
    pub fn cut(&self) {
        self.is_cut.store(true, Release);
    }

    pub fn is_late(&self) -> bool {
        self.late.load(Acquire)
    }

    /// Whether to finish and close; wakes the task when that changes.
    pub fn is_draining(&self, context: &mut Context<'_>) -> bool {
        self.connection.register(context.waker());
        self.is_finishing()
    }

    pub fn is_finishing(&self) -> bool {
        self.draining.load(Acquire)
    }

    /// Whether to go on waiting for the client; wakes the task when that changes.
    pub fn verdict(&self, context: &mut Context<'_>) -> Verdict {
        let drains = self.is_draining(context);
        match self.is_late() {
            true => Verdict::Late,
            false if drains => Verdict::Drain,
            false => Verdict::Stay,
        }
    }

    /// What it waits for, and since which tick.
    pub fn phase(&self) -> (Phase, u64) {
        let state = self.state.load(Relaxed);
        let phase = Phase::ALL.get((state & ((1 << Phase::BITS) - 1)) as usize).copied();
        (phase.unwrap_or(Phase::Busy), state >> Phase::BITS)
    }

    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    pub fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    pub fn is_stream(&self) -> bool {
        self.is_stream.load(Relaxed)
    }

    pub fn patience(&self) -> &Patience {
        &self.limits.patience
    }

    pub(super) fn moves(&self, bytes: usize) {
        self.moved.store(self.moved().wrapping_add(bytes as u64), Relaxed);
    }
}

/// A client's connection that notes when bytes pass.
pub struct Watched {
    pub socket: Stream,
    pub activity: Arc<Activity>,
    pub _open: Open,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.is_cut.load(Acquire) {
            // Else the kernel would go on holding what the client doesn't take.
            self.socket.reset();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        self.activity.moves(buffer.filled().len() - before);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes));
        self.activity.moves(written.as_ref().copied().unwrap_or_default());
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, bytes));
        self.activity.moves(written.as_ref().copied().unwrap_or_default());
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
