//! A connection that becomes another protocol's (RFC 9110, section 7.8): who answers, or gets, a 101 takes it over with
//! the [`OnUpgrade`] among the message's extensions.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection is to the protocol that takes it over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A promise of the connection, which comes true when the 101 has passed. Of its clones, the first to be asked gets it.
#[derive(Clone, Debug)]
pub struct OnUpgrade(Arc<Mutex<State>>);

/// The other end of the promise. Dropped, it breaks it.
#[derive(Debug)]
pub struct Promise(Arc<Mutex<State>>);

/// A promise, and what keeps it.
pub fn promise() -> (Promise, OnUpgrade) {
    let state = Arc::new(Mutex::new(State::Waiting(None)));
    (Promise(Arc::clone(&state)), OnUpgrade(state))
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Kept(Upgraded),
    Over,
}

/// The connection went on as HTTP, ended, or is someone else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was not upgraded")]
pub struct NotUpgraded;

impl Promise {
    /// Hands over the connection, with the bytes that were read beyond the head.
    pub fn keep(self, io: impl Io + 'static, read: Bytes) {
        self.settle(State::Kept(Upgraded { io: Box::new(io), read }));
    }

    fn settle(&self, settled: State) {
        let mut state = self.0.lock();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = settled;
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(State::Over);
    }
}

impl Future for OnUpgrade {
    type Output = Result<Upgraded, NotUpgraded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Over) {
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Kept(upgraded) => Poll::Ready(Ok(upgraded)),
            State::Over => Poll::Ready(Err(NotUpgraded)),
        }
    }
}

/// A connection that speaks HTTP no more.
pub struct Upgraded {
    io: Box<dyn Io>,
    /// What had come in behind the head; it is read first.
    read: Bytes,
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..length]);
            self.read.advance(length);
            if self.read.is_empty() {
                // What it is a slice of may be larger.
                self.read = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_already_comes_first() {
        let (mut near, far) = duplex(64);
        let (promise, promised) = promise();
        let taken = tokio::spawn(promised.clone());
        tokio::task::yield_now().await;
        promise.keep(far, Bytes::from_static(b"hel"));
        let mut upgraded = taken.await.unwrap().unwrap();
        assert_eq!(promised.await.err(), Some(NotUpgraded), "there is only one connection");
        near.write_all(b"lo").await.unwrap();
        let mut text = [0; 5];
        upgraded.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        upgraded.write_all(b"hi").await.unwrap();
        drop(upgraded);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hi");
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_is_broken() {
        let (promise, promised) = promise();
        let taken = tokio::spawn(promised);
        tokio::task::yield_now().await;
        drop(promise);
        assert_eq!(taken.await.unwrap().err(), Some(NotUpgraded));
    }
}
