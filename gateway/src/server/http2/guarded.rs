//! A connection whose frames the guard sees as they pass.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{guard::Guard, reason::Reason};

/// Bytes go through unchanged until the guard ends the connection; then nothing goes through any more.
pub struct Guarded<I> {
    pub io: I,
    // Only the connection's own task takes the lock: it stands in for `&mut`.
    pub guard: Arc<Mutex<Guard>>,
    pub said_farewell: bool,
}

impl<I: AsyncWrite + Unpin> Guarded<I> {
    /// Tells the client, if there is room for it, and breaks off.
    fn leave(&mut self, reason: Reason, context: &mut Context<'_>) -> io::Error {
        if !std::mem::replace(&mut self.said_farewell, true) {
            let farewell = self.guard.lock().farewell();
            if let Some(farewell) = farewell
                && Pin::new(&mut self.io).poll_write(context, &farewell).is_ready()
            {
                _ = Pin::new(&mut self.io).poll_flush(context);
            }
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, reason.name())
    }

    fn ended(&self) -> Option<Reason> {
        self.guard.lock().ended
    }

    fn wrote(&self, written: usize, context: &Context<'_>, slices: &[io::IoSlice<'_>]) {
        let mut left = written;
        let mut guard = self.guard.lock();
        for slice in slices {
            let passed = left.min(slice.len());
            left -= passed;
            if guard.sent(&slice[..passed]).is_err() {
                // To find out at once, not with the next byte.
                context.waker().wake_by_ref();
                return;
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(reason) = self.ended() {
            return Poll::Ready(Err(self.leave(reason, context)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let judged = self.guard.lock().received(&buffer.filled()[before..]);
        if let Err(reason) = judged {
            buffer.set_filled(before);
            return Poll::Ready(Err(self.leave(reason, context)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(reason) = self.ended() {
            return Poll::Ready(Err(self.leave(reason, context)));
        }
        let Poll::Ready(written) = Pin::new(&mut self.io).poll_write(context, bytes) else {
            self.guard.lock().clogged = true;
            return Poll::Pending;
        };
        let written = written?;
        self.wrote(written, context, &[io::IoSlice::new(bytes)]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(reason) = self.ended() {
            return Poll::Ready(Err(self.leave(reason, context)));
        }
        let Poll::Ready(written) = Pin::new(&mut self.io).poll_write_vectored(context, slices) else {
            self.guard.lock().clogged = true;
            return Poll::Pending;
        };
        let written = written?;
        self.wrote(written, context, slices);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
