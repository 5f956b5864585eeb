//! The client's side of one connection: a request at a time, no task and no channel of its own. Whoever waits for the
//! answer drives both directions, so that an answer may begin before its request has ended; whoever reads the answer's
//! body drives what is left of the request.
//!
//! A connection is handed on by value: [`Connection::send`] takes it, the answer's body owns it, and gives it back at its
//! end ([`Incoming::into_connection`]) where one more request can begin. Dropped before, it closes.

mod incoming;
mod outgoing;

use std::{
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

pub use incoming::Incoming;

use crate::{
    buffer,
    field::Limits,
    response::{Head, Parser},
    upgrade,
};
use outgoing::Outgoing;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What there is room for at a read where more keeps coming.
const MAX_READ: usize = 64 * 1024;
/// Interim answers (1xx) to one request; who sends more never answers.
const MAX_INTERIM: usize = 16;
/// Of an answer's head and of its trailers. Services are trusted with more than clients are.
const LIMITS: Limits = Limits { total: 64 << 10, count: 256, one: 64 << 10 };

/// Why a request got no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service can't have seen anything of the request.
    #[error("the connection broke before the request was sent: {0}")]
    Unsent(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// What was received can't be trusted to be read as it was meant.
    #[error("the answer is not valid: {0}")]
    Invalid(#[from] crate::Error),
    #[error("the answer is not valid: it switches to a protocol nobody asked for")]
    Unasked,
    #[error("the answer is not valid: more than {MAX_INTERIM} interim ones came before it")]
    Interim,
    /// The request's own body failed, or isn't as long as its head said.
    #[error("the request's body can't be read: {0}")]
    RequestBody(#[source] BoxError),
}

/// A connection that carries nothing at the moment.
// The box is made once a connection: handed on by value, the state itself would be copied several times a request.
pub struct Connection<T, B>(Box<State<T, B>>);

struct State<T, B> {
    io: T,
    /// Received and not yet taken.
    input: BytesMut,
    /// What there shall be room for at the next read.
    room: usize,
    outgoing: Outgoing<B>,
    /// Why nothing more can be written. An answer may be there nevertheless.
    broken: Option<io::Error>,
}

/// A request as its answer is read.
struct Asked {
    method: Method,
    parser: Parser,
    interim: usize,
}

impl<T, B> Connection<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub fn new(io: T) -> Self {
        Self(Box::new(State {
            io,
            input: BytesMut::new(),
            room: buffer::SIZE,
            outgoing: Outgoing::default(),
            broken: None,
        }))
    }

    /// Whether a request can begin: the peer has neither closed the connection nor said anything unasked. Costs no call to
    /// the system unless something has happened.
    pub fn is_fit(&mut self) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.0.io).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

impl<T, B> Connection<T, B>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Sends a request and waits for the head of its answer; `request`'s own body is not looked at. The target is written in
    /// origin form. What frames the body is written as the body is, and Connection as Upgrade demands; other fields meant
    /// for one hop are the caller's affair. A 101 carries [`upgrade::OnUpgrade`] in its extensions, and the connection with
    /// it.
    ///
    /// # Errors
    /// See [`Error`]; the connection is closed.
    pub fn send<R>(
        mut self,
        request: &Request<R>,
        body: B,
    ) -> impl Future<Output = Result<Response<Incoming<T, B>>, Error>> + use<T, B, R> {
        self.0.input = buffer::input();
        self.0.outgoing.begin(request, body);
        let mut asked = Asked { method: request.method().clone(), parser: Parser::default(), interim: 0 };
        async move {
            let head = poll_fn(|context| self.0.poll_head(&mut asked, context)).await?;
            Ok(self.answered(head))
        }
    }

    fn answered(self, head: Head) -> Response<Incoming<T, B>> {
        let Head { status, version, headers, length, is_last } = head;
        let mut response = Response::new(Incoming::nothing());
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let State { io, input, .. } = *self.0;
            let (promise, promised) = upgrade::promise();
            promise.keep(io, input.freeze());
            response.extensions_mut().insert(promised);
        } else {
            *response.body_mut() = Incoming::new(self, length, is_last);
        }
        response
    }
}

impl<T, B> State<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_head(&mut self, asked: &mut Asked, context: &mut Context<'_>) -> Poll<Result<Head, Error>> {
        loop {
            self.poll_write(context)?;
            if let Some(broken) = self.broken.take_if(|_| !self.outgoing.is_begun()) {
                return Poll::Ready(Err(Error::Unsent(broken)));
            }
            if let Some(head) = self.head(asked)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(self.broken.take().map_or(Error::Closed, Error::Io)));
            }
        }
    }

    /// The head that is the answer, once it is there; interim ones are for nobody.
    fn head(&mut self, asked: &mut Asked) -> Result<Option<Head>, Error> {
        while !self.input.is_empty() {
            let Some(head) = asked.parser.parse(&mut self.input, &asked.method, &LIMITS)? else { break };
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                let is_asked = self.outgoing.is_upgrade() && self.outgoing.is_done();
                return if is_asked { Ok(Some(head)) } else { Err(Error::Unasked) };
            }
            if !head.status.is_informational() {
                return Ok(Some(head));
            }
            asked.parser = Parser::default();
            asked.interim += 1;
            if asked.interim > MAX_INTERIM {
                return Err(Error::Interim);
            }
        }
        Ok(None)
    }

    /// Writes what can be written of the request now.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        if self.broken.is_some() || self.outgoing.is_done() {
            return Ok(());
        }
        match self.outgoing.poll(&mut self.io, context) {
            Poll::Ready(Err(Error::Io(broken))) => {
                self.outgoing.stop();
                self.broken = Some(broken);
                Ok(())
            }
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    /// How much was read; 0: the peer has ended.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        if self.input.capacity() - self.input.len() < self.room / 2 {
            self.input.reserve(self.room);
        }
        let room = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.io.read_buf(&mut self.input)).poll(context)).map_err(Error::Io)?;
        if read == room {
            self.room = (self.room * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Whether the peer may take a further request: this one is sent whole, and nothing was said after the answer.
    fn is_settled(&self) -> bool {
        self.broken.is_none() && self.outgoing.is_done() && self.input.is_empty()
    }

    /// Holds no buffer while it is idle.
    fn settle(&mut self) {
        self.outgoing.stop();
        self.room = buffer::SIZE;
        buffer::free_input(mem::take(&mut self.input));
    }
}
