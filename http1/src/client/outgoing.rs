//! A request on its way out: its head, then its body as it comes, never more and never less than the head promised.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{
    HeaderMap, Method, Request,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::{BoxError, Error};
use crate::{
    Length, buffer,
    chunked::{self, CHUNK_END, LAST},
    encode,
    length::content_length,
};

/// Ends a chunk and the body.
pub(super) const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

pub(super) struct Outgoing<B> {
    /// The head, a chunk's size, the trailers; so much of it is gone already.
    encoded: Vec<u8>,
    written: usize,
    /// What follows: a frame of the body as it came, and what ends its chunk.
    data: Bytes,
    tail: &'static [u8],
    /// None: nothing follows any more.
    body: Option<B>,
    /// What is still owed of it.
    length: Length,
    is_begun: bool,
    is_upgrade: bool,
}

impl<B> Default for Outgoing<B> {
    fn default() -> Self {
        Self {
            encoded: Vec::new(),
            written: 0,
            data: Bytes::new(),
            tail: b"",
            body: None,
            length: Length::NONE,
            is_begun: false,
            is_upgrade: false,
        }
    }
}

impl<B> Outgoing<B> {
    /// Whether any of it may have been read.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether it asks for another protocol.
    pub fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// Whether all of it has been written.
    pub fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    /// Forgets what wasn't written, and gives its buffer back.
    pub fn stop(&mut self) {
        self.body = None;
        self.data = Bytes::new();
        self.tail = b"";
        self.written = 0;
        buffer::free_output(mem::take(&mut self.encoded));
    }

    fn is_written(&self) -> bool {
        self.written == self.encoded.len() && self.data.is_empty() && self.tail.is_empty()
    }
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Encodes a head, which the body is to follow.
    pub fn begin<R>(&mut self, request: &Request<R>, body: B) {
        self.is_begun = false;
        self.length = length(request.headers(), &body);
        self.encoded = buffer::output();
        let out = &mut self.encoded;
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if target.starts_with('?') {
            // All that is left of `http://host?a=b`.
            encode::request_line(out, request.method(), &["/", target].concat());
        } else {
            encode::request_line(out, request.method(), target);
        }
        // What says where the message ends and what becomes of the connection is not taken from its fields.
        let (mut tells_length, mut is_upgrade) = (has_body_by_meaning(request.method()), false);
        for (name, value) in request.headers() {
            match name {
                name if *name == CONNECTION || *name == TRANSFER_ENCODING => continue,
                name if *name == CONTENT_LENGTH => tells_length = true,
                name => {
                    is_upgrade |= *name == UPGRADE;
                    encode::field(out, name, value);
                }
            }
        }
        if is_upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
        }
        self.is_upgrade = is_upgrade;
        if self.length != Length::NONE || tells_length {
            encode::length(out, self.length);
        }
        out.extend_from_slice(b"\r\n");
        self.body = (self.length != Length::NONE).then_some(body);
    }

    /// Writes what there is. Ready: all of it. Pending: the socket is full, or the body has no more yet.
    pub fn poll<T: AsyncWrite + Unpin>(&mut self, io: &mut T, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let mut waits = false;
            if self.data.is_empty() && self.tail.is_empty() {
                // A head needn't wait for its body, but goes with its beginning where that is there.
                waits = self.poll_body(context)?.is_pending();
            }
            while !self.is_written() {
                let written = ready!(self.poll_io(io, context)).map_err(Error::Io)?;
                if written == 0 {
                    return Poll::Ready(Err(Error::Io(io::ErrorKind::WriteZero.into())));
                }
                self.is_begun = true;
                self.advance(written);
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    fn poll_io<T: AsyncWrite + Unpin>(&self, io: &mut T, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let encoded = &self.encoded[self.written..];
        if self.data.is_empty() && self.tail.is_empty() {
            return Pin::new(io).poll_write(context, encoded);
        }
        let slices = [IoSlice::new(encoded), IoSlice::new(&self.data), IoSlice::new(self.tail)];
        Pin::new(io).poll_write_vectored(context, &slices)
    }

    fn advance(&mut self, written: usize) {
        let encoded = written.min(self.encoded.len() - self.written);
        self.written += encoded;
        if self.written == self.encoded.len() {
            self.encoded.clear();
            self.written = 0;
        }
        let data = (written - encoded).min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[written - encoded - data..];
        if self.data.is_empty() {
            // What it is a slice of may be larger.
            self.data = Bytes::new();
        }
    }

    /// Takes the body's next frame, if it has one, to be written behind what is encoded.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(body) = &mut self.body {
            let frame = ready!(Pin::new(&mut *body).poll_frame(context)).transpose();
            let is_last = body.is_end_stream();
            match frame.map_err(|error| Error::RequestBody(error.into()))?.map(Frame::into_data) {
                // A chunk of nothing would end the body.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(self.frame(data, is_last)),
                Some(Err(frame)) => return Poll::Ready(self.end(frame.into_trailers().ok().as_ref())),
                None => return Poll::Ready(self.end(None)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn frame(&mut self, data: Bytes, is_last: bool) -> Result<(), Error> {
        if let Length::Exact(owed) = &mut self.length {
            *owed = owed.checked_sub(data.len() as u64).ok_or_else(|| unlike("longer"))?;
            if *owed == 0 {
                self.body = None;
            } else if is_last {
                return Err(unlike("shorter"));
            }
        } else {
            chunked::write_size(&mut self.encoded, data.len());
            self.tail = CHUNK_END;
            if is_last {
                self.tail = LAST_CHUNK_END;
                self.body = None;
            }
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Error> {
        self.body = None;
        match (self.length, trailers) {
            (Length::Exact(_), _) => return Err(unlike("shorter")),
            (_, Some(trailers)) => chunked::write_last(&mut self.encoded, trailers),
            (_, None) => self.encoded.extend_from_slice(LAST),
        }
        Ok(())
    }
}

/// The body's own word goes before its header's: it is what will be written.
fn length(headers: &HeaderMap, body: &impl Body) -> Length {
    if body.is_end_stream() {
        return Length::NONE;
    }
    let told = || content_length(headers).ok().flatten();
    body.size_hint().exact().or_else(told).map_or(Length::Chunked, Length::Exact)
}

/// Whether a request of this method says that it has no body (RFC 9110, section 8.6).
fn has_body_by_meaning(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

fn unlike(how: &'static str) -> Error {
    Error::RequestBody(format!("it is {how} than its length").into())
}
