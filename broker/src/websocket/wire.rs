//! The framing of a socket (RFC 6455), by tungstenite, but for what that keeps: its buffers stay as large as the largest frame that
//! ever came or went. A socket that rests between two messages gets new ones.
//!
//! That needs to be seen from outside, since what is read and not used yet would be lost: so the lengths of the frames that come
//! are counted here, too ([`Frames`]).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, Sink, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

/// An idle connection shall cost little; what is larger is read and written in pieces.
const READ_BUFFER: usize = 1024;
const WRITE_BUFFER: usize = 4 * 1024;
/// A message whose buffer isn't kept.
const LARGE: usize = 8 * 1024;

type Socket<IO> = WebSocketStream<Watched<IO>>;

/// A socket's messages.
pub(super) struct Wire<IO = TokioIo<Upgraded>> {
    /// None: it is over.
    socket: Option<Socket<IO>>,
    /// What came or went was large, and so are the buffers.
    swollen: bool,
    /// Which side has said what of that is tungstenite's to know.
    closing: bool,
}

/// What is read, and where it stands.
struct Watched<IO> {
    io: IO,
    frames: Frames,
}

/// How far the frames that come were read.
#[derive(Debug, Default)]
struct Frames {
    /// The head of the one that comes, so far: 2 to 14 bytes.
    head: [u8; 14],
    had: usize,
    /// Bytes of its payload that haven't come.
    left: u64,
    /// A message in parts has begun.
    in_parts: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// `most`: of a frame, and of a message, in bytes.
    pub(super) fn new(io: IO, most: usize) -> Self {
        let watched = Watched { io, frames: Frames::default() };
        Self { socket: socket(watched, config(most)), swollen: false, closing: false }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            let Some(socket) = &mut self.socket else { return Poll::Ready(None) };
            match socket.poll_next_unpin(cx) {
                Poll::Ready(next) => {
                    if let Some(Ok(message)) = &next {
                        self.swollen |= message.len() > LARGE;
                        self.closing |= message.is_close();
                    }
                    return Poll::Ready(next);
                }
                // With new buffers it has to be asked once more, so that it wakes whom it should.
                Poll::Pending if self.slim(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.pinned()?.poll_ready(cx)
    }

    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        // The other side has closed: tungstenite answers that with the next flush, and takes nothing else.
        if self.closing {
            return Ok(());
        }
        self.swollen |= message.len() > LARGE;
        self.closing |= message.is_close();
        self.pinned()?.start_send(message)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.pinned()?.poll_flush(cx)
    }

    fn pinned(&mut self) -> Result<Pin<&mut Socket<IO>>, Error> {
        self.socket.as_mut().map(Pin::new).ok_or(Error::AlreadyClosed)
    }

    /// Gives back the buffers, where nothing is in them; whether it did. All that came has been taken.
    fn slim(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        if !self.swollen || self.closing || !socket.get_ref().frames.are_whole() {
            return false;
        }
        if !matches!(Pin::new(&mut *socket).poll_flush(cx), Poll::Ready(Ok(()))) {
            return false;
        }
        let config = *socket.get_config();
        self.swollen = false;
        self.socket = self.socket.take().and_then(|old| self::socket(old.into_inner(), config));
        true
    }
}

/// The answer by which the connection becomes a socket of this subprotocol. None: the request has no key.
pub(super) fn accepted(headers: &HeaderMap, subprotocol: &'static str) -> Option<Response<axum::body::Body>> {
    let key = derive_accept_key(headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(key).ok()?);
    fields.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    Some(response)
}

fn config(most: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
}

fn socket<IO: AsyncRead + AsyncWrite + Unpin>(io: Watched<IO>, config: WebSocketConfig) -> Option<Socket<IO>> {
    // It waits for nothing: the handshake is over.
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).now_or_never()
}

impl Frames {
    /// Whether no message has come in part.
    fn are_whole(&self) -> bool {
        self.had == 0 && self.left == 0 && !self.in_parts
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.had] = first;
            self.had += 1;
            bytes = rest;
            if let Some(length) = self.length() {
                // Control frames come in between the parts of a message.
                if self.head[0] & 0x08 == 0 {
                    self.in_parts = self.head[0] & 0x80 == 0;
                }
                (self.had, self.left) = (0, length);
            }
        }
    }

    /// The payload's, once the head has come.
    fn length(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.head;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (more, length) = match second & 0x7f {
            126 => (2, extended[..2].iter().fold(0, |length, &byte| length << 8 | u64::from(byte))),
            127 => (8, extended[..8].iter().fold(0, |length, &byte| length << 8 | u64::from(byte))),
            length => (0, u64::from(length)),
        };
        (self.had >= 2 && self.had == 2 + more + mask).then_some(length)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.frames.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::SinkExt as _;
    use proptest::prelude::*;
    use std::future::poll_fn;

    /// A masked frame, as clients send them.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(vec![b'x'; length]);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_whole_at_their_ends_alone(lengths in proptest::collection::vec(0..70_000_usize, 1..6), piece in 1..5_000_usize) {
            let (mut frames, mut bytes, mut ends) = (Frames::default(), Vec::new(), vec![0]);
            for length in lengths {
                bytes.extend(frame(0x81, length));
                ends.push(bytes.len());
            }
            let mut passed = 0;
            for piece in bytes.chunks(piece) {
                frames.pass(piece);
                passed += piece.len();
                prop_assert_eq!(frames.are_whole(), ends.contains(&passed));
            }
        }
    }

    #[test]
    fn a_message_in_parts_is_whole_with_its_last_part() {
        let mut frames = Frames::default();
        // A ping in between is none of them.
        for (first, whole) in [(0x01, false), (0x89, false), (0x00, false), (0x80, true), (0x89, true)] {
            frames.pass(&frame(first, 5));
            assert_eq!(frames.are_whole(), whole, "{first:x}");
        }
    }

    #[tokio::test]
    async fn large_buffers_are_given_back_and_nothing_is_lost() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut wire = Wire::new(near, 1 << 20);
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        for length in [10, 300_000, 10, 500_000, 9_000, 10] {
            let text = "y".repeat(length);
            let (came, ()) = tokio::join!(poll_fn(|cx| wire.poll_next(cx)), async {
                client.send(Message::text(text.as_str())).await.unwrap();
            });
            assert_eq!(came.unwrap().unwrap().into_text().unwrap().as_str(), text);
            // Nothing comes: it is asked, and rests.
            let rests = poll_fn(|cx| Poll::Ready(wire.poll_next(cx).is_pending())).await;
            assert!(rests && !wire.swollen, "after {length}");
            poll_fn(|cx| wire.poll_ready(cx)).await.unwrap();
            wire.start_send(Message::text(text.as_str())).unwrap();
            let (flushed, told) = tokio::join!(poll_fn(|cx| wire.poll_flush(cx)), client.next());
            flushed.unwrap();
            assert_eq!(told.unwrap().unwrap().into_text().unwrap().as_str(), text);
        }
    }
}
