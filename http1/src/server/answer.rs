//! An answer on its way out: its head, then its body as it comes, never more and never less than the head promised.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version, header};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{BoxError, connection::Connection};
use crate::{
    Length,
    chunked::{self, CHUNK_END, LAST},
    date, encode,
    length::content_length,
    request::says,
};

/// Ends a chunk and the body.
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// What of a request its answer depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub version: Version,
    pub is_head: bool,
    pub takes_trailers: bool,
    /// The connection may carry another request.
    pub is_persistent: bool,
}

pub(super) struct Answer<B> {
    /// None: all of it has been taken.
    body: Option<B>,
    /// What is still owed of it.
    length: Length,
    takes_trailers: bool,
}

impl<B> Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// Writes the head. Takes the connection's persistence back where the answer ends it.
    pub fn begin(response: Response<B>, asked: &mut Asked, out: &mut Vec<u8>) -> Self {
        let (head, body) = response.into_parts();
        let has_none = asked.is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let exact = body.size_hint().exact();
        // The body's own word goes before its header's: it is what will be written.
        let told = || content_length(&head.headers).ok().flatten();
        let length = match exact.or_else(told) {
            Some(length) => Length::Exact(length),
            None if asked.version == Version::HTTP_10 => Length::UntilClose,
            None => Length::Chunked,
        };
        asked.is_persistent &= length != Length::UntilClose || has_none;

        encode::status_line(out, asked.version, head.status);
        let mut is_dated = false;
        // One walk: each look into the map would cost as much as writing a field.
        for (name, value) in &head.headers {
            if *name == header::CONNECTION {
                asked.is_persistent &= !says(&head.headers, header::CONNECTION, "close");
            } else if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
                is_dated |= *name == header::DATE;
                encode::field(out, name, value);
            }
        }
        match (has_none, told) {
            (false, _) => encode::length(out, length),
            // What the answer to a GET would say; nobody reads a body behind it.
            (true, told) if head.status != StatusCode::NO_CONTENT => {
                if let Some(length) = told().or(exact.filter(|length| *length > 0)) {
                    encode::length(out, Length::Exact(length));
                }
            }
            (true, _) => {}
        }
        match (asked.is_persistent, asked.version == Version::HTTP_10) {
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, false) => {}
        }
        if !is_dated {
            date::write(out);
        }
        out.extend_from_slice(b"\r\n");
        let body = (!has_none && length != Length::NONE).then_some(body);
        Self { body, length, takes_trailers: asked.takes_trailers }
    }

    pub fn is_whole(&self) -> bool {
        self.body.is_none()
    }

    /// Puts what there is of the body behind what is to be written. Ready: all of it, or there is no room for more.
    pub fn poll_body<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
    ) -> Poll<io::Result<()>> {
        while connection.has_room()
            && let Some(body) = &mut self.body
        {
            let frame = ready!(Pin::new(&mut *body).poll_frame(context));
            let is_last = body.is_end_stream();
            let Some(frame) = frame else {
                self.end(None, connection.output())?;
                break;
            };
            let frame = frame.map_err(|error| io::Error::other(error.into()))?;
            match frame.into_data() {
                // A chunk of nothing would end the body.
                Ok(data) if data.is_empty() && !is_last => {}
                Ok(data) => self.frame(data, is_last, connection)?,
                Err(frame) => self.end(frame.into_trailers().ok().as_ref(), connection.output())?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn frame<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        data: Bytes,
        is_last: bool,
        connection: &mut Connection<T>,
    ) -> io::Result<()> {
        match &mut self.length {
            Length::Exact(owed) => {
                *owed = owed.checked_sub(data.len() as u64).ok_or_else(|| unlike("longer"))?;
                if *owed == 0 {
                    self.body = None;
                } else if is_last {
                    return Err(unlike("shorter"));
                }
                connection.push(data, b"");
            }
            Length::Chunked if data.is_empty() => return self.end(None, connection.output()),
            Length::Chunked => {
                chunked::write_size(connection.output(), data.len());
                connection.push(data, if is_last { LAST_CHUNK_END } else { CHUNK_END });
            }
            Length::UntilClose => connection.push(data, b""),
        }
        if is_last {
            self.body = None;
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> io::Result<()> {
        self.body = None;
        match (self.length, trailers) {
            (Length::Exact(1..), _) => return Err(unlike("shorter")),
            (Length::Chunked, Some(trailers)) if self.takes_trailers => chunked::write_last(out, trailers),
            (Length::Chunked, _) => out.extend_from_slice(LAST),
            (Length::Exact(_) | Length::UntilClose, _) => {}
        }
        Ok(())
    }
}

/// Writes the head that gives the connection to another protocol.
pub(super) fn switch(out: &mut Vec<u8>, headers: &HeaderMap) {
    encode::status_line(out, Version::HTTP_11, StatusCode::SWITCHING_PROTOCOLS);
    encode::fields(out, headers);
    out.extend_from_slice(b"connection: upgrade\r\n\r\n");
}

fn unlike(how: &str) -> io::Error {
    io::Error::other(format!("an answer's body is {how} than its length"))
}
