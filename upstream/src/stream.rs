//! A connection to an endpoint, plain or within TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::drain::Tracked;

/// As much as fits one record.
const RECORD: usize = 16 * 1024;
/// What is written at once, at most; the rest is for the next time.
const SLICES: usize = 4;

/// What bytes are read from and written to. TLS is boxed: plain connections stay as small as they are.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
    /// Either, to an endpoint that may go.
    Tracked(Box<Tracked>),
}

/// A connection within TLS. A write is one record at most: where it fails, nothing of it can be read at the other end, so
/// that what is told of a request that wasn't sent is as true as without TLS.
#[derive(Debug)]
pub(crate) struct Secured {
    stream: TlsStream<TcpStream>,
    /// Some of what was taken may not have gone out.
    owes: bool,
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(Secured { stream, owes: false }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(secured) => secured.poll_read(context, buffer),
            Self::Tracked(tracked) => Pin::new(&mut **tracked).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(secured) => secured.poll_write(context, &[IoSlice::new(bytes)]),
            Self::Tracked(tracked) => Pin::new(&mut **tracked).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, bytes),
            Self::Tls(secured) => secured.poll_write(context, bytes),
            Self::Tracked(tracked) => Pin::new(&mut **tracked).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(secured) => secured.poll_flush(context),
            Self::Tracked(tracked) => Pin::new(&mut **tracked).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(context),
            Self::Tracked(tracked) => Pin::new(&mut **tracked).poll_shutdown(context),
        }
    }
}

impl Secured {
    /// Whoever waits for an answer has the rest of its request sent by that, as a socket would by itself.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.owes && self.poll_flush(context).is_ready() {
            // It failed, maybe; an answer may be there nevertheless.
            self.owes = false;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut room = RECORD;
        for (slice, bytes) in slices.iter_mut().zip(bytes.iter().filter(|bytes| !bytes.is_empty())) {
            *slice = IoSlice::new(&bytes[..bytes.len().min(room)]);
            room -= slice.len();
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, &slices);
        self.owes |= matches!(written, Poll::Ready(Ok(_)));
        written
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.owes &= !matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }
}
