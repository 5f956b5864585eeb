//! A body on its way out, in a coding.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use upstream::{Body, BoxError};

use super::{Level, encoder::Encoder, slots::Slot};

/// What is coded before others of the core have their turn: less than a millisecond's worth.
const SLICE: usize = 32 << 10;
/// Smaller pieces are gathered, as long as more comes at once.
const PIECE: usize = 8 << 10;

/// A body that is in memory, coded; None where that is no gain, or where it is too large to be done at once.
pub fn at_once(bytes: &[u8], level: Level) -> Option<Bytes> {
    if bytes.len() > SLICE {
        return None;
    }
    let mut encoder = Encoder::new(level).ok()?;
    encoder.write(bytes).ok()?;
    encoder.finish().ok().filter(|coded| coded.len() < bytes.len())
}

/// Codes a body as it comes. Nothing is held back: where no more is there at once, all that came goes out.
pub struct Compressed {
    body: Body,
    /// None when the end is written.
    encoder: Option<Encoder>,
    /// What came and is not coded yet.
    rest: Bytes,
    /// A slice of it was coded; before the next one others have their turn.
    had_its_turn: bool,
    /// Whether the encoder has something that a flush would bring out.
    pending: bool,
    trailers: Option<HeaderMap>,
    _slot: Slot,
}

impl Compressed {
    /// # Errors
    /// If there is no memory.
    pub fn new(body: Body, level: Level, slot: Slot) -> Result<Self, (Body, io::Error)> {
        match Encoder::new(level) {
            Ok(encoder) => {
                let (encoder, rest) = (Some(encoder), Bytes::new());
                Ok(Self { body, encoder, rest, had_its_turn: false, pending: false, trailers: None, _slot: slot })
            }
            Err(error) => Err((body, error)),
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if !self.rest.is_empty() {
                if std::mem::replace(&mut self.had_its_turn, true) {
                    self.had_its_turn = false;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let slice = self.rest.split_to(self.rest.len().min(SLICE));
                encoder.write(&slice)?;
                self.pending = true;
                if encoder.ready() >= PIECE {
                    return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
                }
                continue;
            }
            self.had_its_turn = false;
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        return self.finish();
                    }
                },
                Poll::Ready(None) => return self.finish(),
                Poll::Pending if self.pending => {
                    self.pending = false;
                    encoder.flush()?;
                    return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn finish(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(encoder) = self.encoder.take() else { return Poll::Ready(None) };
        Poll::Ready(Some(encoder.finish().map(Frame::data).map_err(Into::into)))
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = this.next(context);
        if let Poll::Ready(Some(Err(_))) = &polled {
            // Broken off, without the coding's own end: nobody can take the part for the whole.
            this.encoder = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}
