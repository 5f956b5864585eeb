//! The end of what is under way at an endpoint that is gone: its connections have a while to finish, then they are cut.
//!
//! Only connections to endpoints that come and go are kept track of; those to endpoints of the configuration are not, and
//! cost nothing.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Acquire, Ordering::Release},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// The open connections of an endpoint, all cores together.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Vec<Weak<Cut>>>);

/// A connection that can be cut by somebody else.
#[derive(Debug)]
pub(crate) struct Tracked {
    stream: Stream,
    cut: Arc<Cut>,
}

#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Connections {
    pub fn track(&self, stream: Stream) -> Stream {
        let cut = Arc::<Cut>::default();
        let mut all = self.0.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&cut));
        Stream::Tracked(Box::new(Tracked { stream, cut }))
    }

    /// Cuts all that are open. Returns how many they were.
    pub fn cut(&self) -> usize {
        let all = std::mem::take(&mut *self.0.lock());
        let open = all.iter().filter_map(Weak::upgrade);
        open.map(|cut| {
            cut.is_cut.store(true, Release);
            cut.reader.wake();
            cut.writer.wake();
        })
        .count()
    }
}

impl Cut {
    /// Leaves word of who waits, and looks again: it may have been cut in between.
    fn pending<T>(&self, waker: &AtomicWaker, context: &Context<'_>) -> Poll<io::Result<T>> {
        waker.register(context.waker());
        self.check().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn check(&self) -> Option<io::Error> {
        let is_cut = self.is_cut.load(Acquire);
        is_cut.then(|| {
            io::Error::new(ErrorKind::ConnectionAborted, "the endpoint is gone, and it took too long to finish")
        })
    }
}

impl Tracked {
    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(error) = self.cut.check() {
            return Poll::Ready(Err(error));
        }
        match write(Pin::new(&mut self.stream), context) {
            Poll::Pending => self.cut.pending(&self.cut.writer, context),
            ready => ready,
        }
    }
}

impl AsyncRead for Tracked {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.cut.check() {
            return Poll::Ready(Err(error));
        }
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending => this.cut.pending(&this.cut.reader, context),
            ready => ready,
        }
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(context, |stream, context| stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(context, AsyncWrite::poll_shutdown)
    }
}
