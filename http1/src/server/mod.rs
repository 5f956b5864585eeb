//! The server's side of one connection: a request at a time, in one task, without a channel and without a timer.
//!
//! [`serve`] reads a head, calls the [`Service`], and writes its answer, until one side has had enough. All that is read
//! or written passes through the task that runs it; a [`RequestBody`] may be read anywhere. Who takes too long is for the
//! service to say ([`Service::verdict`]), which is told at every step what the connection waits for.

mod answer;
mod body;
mod connection;
mod exchange;
mod incoming;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

pub use body::{BodyError, Fate, RequestBody};

use crate::{
    Error,
    request::{Limits, Reader},
};
use connection::{Connection, Head};
use exchange::{After, Exchange};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What answers a connection's requests.
pub trait Service {
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin;
    type Future: Future<Output = Response<Self::Body>>;

    fn call(&self, request: Request<RequestBody>) -> Self::Future;

    /// Answers what is no request. The connection is closed after it.
    fn refuse(&self, refusal: Refusal) -> Self::Future;

    /// The connection has gone on to this.
    fn enter(&self, phase: Phase);

    /// Whether to go on waiting for the client. The task is to be woken when that changes.
    fn verdict(&self, context: &mut Context<'_>) -> Verdict;

    /// Whether the answer that begins now is to be the connection's last.
    fn is_draining(&self) -> bool;
}

/// Why there is no request to be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Error),
    #[error("the request took too long to arrive")]
    TooSlow,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing, between two requests.
    Idle,
    /// Bytes of a head are there, and not all.
    Head,
    /// A request is being answered, and the client isn't waited for.
    Busy,
    /// More of a request's body is wanted.
    Receiving,
    /// The client has to take what was sent before more can be.
    Sending,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stay,
    /// No request after the one that has begun.
    Drain,
    /// The client took too long.
    Late,
}

/// Serves a connection to its end, or until another protocol takes it over.
///
/// # Errors
/// How the connection broke, which is the client's affair; or why an answer could not be finished.
pub async fn serve<T, S>(io: T, service: &S, limits: &Limits) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let mut connection = Connection::new(io);
    let mut reader = Reader::default();
    loop {
        let head = poll_fn(|context| connection.poll_head(context, &mut reader, service, limits)).await?;
        let mut exchange = match head {
            Head::Request(request, seen) => Exchange::of(request, seen, &mut connection, service),
            Head::Refused(refusal) => Exchange::refusing(refusal, &mut connection, service),
            Head::None => return Box::pin(connection.close()).await,
        };
        // Ends are boxed: a connection that goes on needn't carry their timers.
        match poll_fn(|context| exchange.poll(context, &mut connection, service)).await? {
            After::Next => connection.settle(service),
            After::Upgrade(promise) => {
                let (io, read) = connection.into_parts();
                promise.keep(io, read);
                return Ok(());
            }
            After::Close => return Box::pin(connection.close()).await,
            After::Linger => return Box::pin(connection.linger()).await,
        }
    }
}

/// What a poll that found the client gone ends with.
fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}
