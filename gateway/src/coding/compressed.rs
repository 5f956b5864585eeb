//! A body on its way out, in a coding.

use std::{
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

/// A body that is in memory, coded; None where it is too large to be done at once.
pub fn at_once(bytes: &[u8], level: Level) -> Option<Bytes> {
    if bytes.len() > SLICE {
        return None;
    }
    let mut encoder = Encoder::new(level).ok()?;
    encoder.write(bytes).ok()?;
    encoder.finish().ok()
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
    pub fn new(body: Body, encoder: Encoder, slot: Slot) -> Self {
        let (encoder, rest) = (Some(encoder), Bytes::new());
        Self { body, encoder, rest, had_its_turn: false, pending: false, trailers: None, _slot: slot }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http::HeaderValue;
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;
    use crate::coding::{Coding, Decoder, Decompressed, Outcome, Slots};

    const LEVELS: [Level; 3] = [
        Level { coding: Coding::Br, level: 4 },
        Level { coding: Coding::Zstd, level: 3 },
        Level { coding: Coding::Gzip, level: 5 },
    ];

    fn compressed(frames: Vec<Result<Frame<Bytes>, BoxError>>, level: Level) -> Compressed {
        // Each frame is a while in coming.
        let frames = futures_util::stream::unfold(frames.into_iter(), |mut frames| async move {
            let frame = frames.next()?;
            tokio::task::yield_now().await;
            Some((frame, frames))
        });
        let body = Body::new(StreamBody::new(Box::pin(frames)));
        Compressed::new(body, Encoder::new(level).unwrap(), Slots::default().take().unwrap())
    }

    fn data(bytes: &[u8]) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::copy_from_slice(bytes)))
    }

    #[tokio::main(flavor = "current_thread")]
    async fn there_and_back(frames: &[Vec<u8>], level: Level) -> Bytes {
        let body = compressed(frames.iter().map(|frame| data(frame)).collect(), level);
        let decoder = Decoder::new(level.coding, 1 << 30).unwrap();
        let slot = Slots::default().take().unwrap();
        let body = Decompressed::new(Body::new(body), decoder, Outcome::default(), slot);
        body.collect().await.unwrap().to_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn any_body_arrives_as_it_was(
            frames in prop::collection::vec(prop_oneof![
                3 => prop::collection::vec(any::<u8>(), 0..100),
                // Larger than what is coded at once, and too random to become much smaller: bodies that do are refused.
                1 => (any::<u64>(), 30_000..100_000usize).prop_map(|(seed, length)| {
                    let random = |at: u64| (seed ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                    (0..length as u64).map(|at| (random(random(at)) >> 32) as u8).collect()
                }),
            ], 0..8),
        ) {
            for level in LEVELS {
                prop_assert_eq!(there_and_back(&frames, level), frames.concat());
            }
        }
    }

    #[tokio::test]
    async fn trailers_come_after_the_end() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("1"))]);
        let frames = vec![data(b"some text"), Ok(Frame::trailers(trailers.clone()))];
        let collected = compressed(frames, LEVELS[2]).collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert!(!collected.to_bytes().is_empty());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_has_no_end() {
        let mut body = compressed(vec![data(b"some text"), Err("broken".into())], LEVELS[2]);
        let mut decoder = Decoder::new(Coding::Gzip, 1 << 20).unwrap();
        let broken = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => decoder.write(frame.data_ref().unwrap()).unwrap(),
                Err(error) => break error,
            }
        };
        assert_eq!(broken.to_string(), "broken");
        assert_eq!(decoder.take(), "some text");
        assert!(decoder.finish().is_err());
    }

    #[tokio::test]
    async fn a_large_piece_lets_others_have_their_turn() {
        let mut body = compressed(vec![data(&vec![b'x'; 10 * SLICE])], LEVELS[1]);
        let mut turns = 0;
        let whole = async { while body.frame().await.is_some() {} };
        let mut whole = std::pin::pin!(whole.fuse());
        while (&mut whole).now_or_never().is_none() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(turns >= 9, "{turns}");
    }

    #[test]
    fn a_small_body_is_done_at_once() {
        let text: String = (0..500).map(|number| format!("{number}, ")).collect();
        for level in LEVELS {
            let coded = at_once(text.as_bytes(), level).unwrap();
            let mut decoder = Decoder::new(level.coding, 1 << 20).unwrap();
            decoder.write(&coded).unwrap();
            decoder.finish().unwrap();
            assert_eq!(decoder.take(), text);
            assert_eq!(at_once(&vec![b'x'; SLICE + 1], level), None);
        }
    }
}
