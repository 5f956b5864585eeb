//! The body of an answer, and the connection it is read from.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{BoxError, Connection, Error, LIMITS, outgoing::LAST_CHUNK_END};
use crate::{
    Length,
    chunked::{Decoder, Step},
};

/// An answer's body. Where the service answers before it has read the whole request, the rest is sent while this is read.
pub struct Incoming<T, B> {
    /// None: the body has failed, or there never was one.
    connection: Option<Connection<T, B>>,
    reading: Reading,
    /// The connection takes no request after this one.
    is_last: bool,
}

enum Reading {
    /// So many bytes are left, never none.
    Exact(u64),
    Chunked(Decoder),
    UntilClose,
    Ended,
}

impl<T, B> Incoming<T, B> {
    /// Of an answer whose connection is someone else's.
    pub(super) fn nothing() -> Self {
        Self { connection: None, reading: Reading::Ended, is_last: true }
    }

    pub(super) fn new(connection: Connection<T, B>, length: Length, is_last: bool) -> Self {
        let reading = match length {
            Length::NONE => Reading::Ended,
            Length::Exact(length) => Reading::Exact(length),
            Length::Chunked => Reading::Chunked(Decoder::default()),
            Length::UntilClose => Reading::UntilClose,
        };
        Self { connection: Some(connection), reading, is_last }
    }

    /// The whole body, where the head told its length and all of it has come. The body has then ended.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let length = match self.reading {
            Reading::Exact(length) => usize::try_from(length).ok()?,
            Reading::Ended => return Some(Bytes::new()),
            Reading::Chunked(_) | Reading::UntilClose => return None,
        };
        let input = &mut self.connection.as_mut()?.0.input;
        if input.len() < length {
            return None;
        }
        self.reading = Reading::Ended;
        Some(input.split_to(length).freeze())
    }
}

impl<T, B> Incoming<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// The connection, where the body has ended and the service takes one more request on it.
    pub fn into_connection(self) -> Option<Connection<T, B>> {
        if self.is_last || !matches!(self.reading, Reading::Ended) {
            return None;
        }
        let mut connection = self.connection.filter(|connection| connection.0.is_settled())?;
        connection.0.settle();
        Some(connection)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        let Some(Connection(state)) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        loop {
            if let Some(frame) = self.reading.next(&mut state.input)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if let Reading::Ended = self.reading {
                return Poll::Ready(Ok(None));
            }
            // What is left of the request goes out while its answer comes in.
            state.poll_write(context)?;
            if ready!(state.poll_read(context))? == 0 {
                if !matches!(self.reading, Reading::UntilClose) {
                    return Poll::Ready(Err(Error::Closed));
                }
                self.reading = Reading::Ended;
            }
        }
    }
}

impl Reading {
    /// What of the body is here already.
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Error> {
        match self {
            Self::Exact(left) if !input.is_empty() => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Some(Frame::data(input.split_to(length).freeze())))
            }
            Self::UntilClose if !input.is_empty() => Ok(Some(Frame::data(input.split().freeze()))),
            Self::Exact(_) | Self::UntilClose | Self::Ended => Ok(None),
            Self::Chunked(decoder) => loop {
                match decoder.decode(input, &LIMITS)? {
                    Step::Data(data) => {
                        // Whoever knows that this was all needn't ask once more.
                        if input[..] == *LAST_CHUNK_END && decoder.decode(input, &LIMITS)? == Step::End {
                            *self = Self::Ended;
                        }
                        return Ok(Some(Frame::data(data)));
                    }
                    Step::Trailers(trailers) if trailers.is_empty() => {}
                    Step::Trailers(trailers) => {
                        // Nothing follows them.
                        *self = Self::Ended;
                        return Ok(Some(Frame::trailers(trailers)));
                    }
                    Step::More => return Ok(None),
                    Step::End => {
                        *self = Self::Ended;
                        return Ok(None);
                    }
                }
            },
        }
    }
}

impl<T, B> Body for Incoming<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll(context));
        if frame.is_err() {
            // Where the next answer would begin is anyone's guess.
            this.connection = None;
            this.reading = Reading::Ended;
        }
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match self.reading {
            Reading::Exact(left) => SizeHint::with_exact(left),
            Reading::Ended => SizeHint::with_exact(0),
            Reading::Chunked(_) | Reading::UntilClose => SizeHint::default(),
        }
    }
}
