//! A body on its way in, out of its coding.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use upstream::{Body, BoxError};

use super::{
    decoder::{Decoder, Fault},
    slots::Slot,
};

/// What is read at once: at most a hundred times as much comes out.
const SLICE: usize = 4 << 10;

/// Where it is noted why a body could not be read.
#[derive(Clone, Debug, Default)]
pub struct Outcome(Arc<OnceLock<Fault>>);

impl Outcome {
    pub fn fault(&self) -> Option<Fault> {
        self.0.get().copied()
    }
}

/// Decodes a body as it comes.
pub struct Decompressed {
    body: Body,
    /// None when the end is read.
    decoder: Option<Decoder>,
    /// What came and is not decoded yet.
    rest: Bytes,
    outcome: Outcome,
    _slot: Slot,
}

impl Decompressed {
    pub fn new(body: Body, decoder: Decoder, outcome: Outcome, slot: Slot) -> Self {
        Self { body, decoder: Some(decoder), rest: Bytes::new(), outcome, _slot: slot }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            // Trailers of a request are nobody's affair here.
            let Some(decoder) = &mut self.decoder else { return Poll::Ready(None) };
            if !self.rest.is_empty() {
                let slice = self.rest.split_to(self.rest.len().min(SLICE));
                if let Err(fault) = decoder.write(&slice) {
                    return self.fail(fault);
                }
                if decoder.ready() > 0 {
                    return Poll::Ready(Some(Ok(Frame::data(decoder.take()))));
                }
                continue;
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        self.rest = data;
                    }
                }
                Poll::Ready(None) => {
                    if let Err(fault) = decoder.finish() {
                        return self.fail(fault);
                    }
                    let last = decoder.take();
                    self.decoder = None;
                    if !last.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.decoder = None;
        _ = self.outcome.0.set(fault);
        Poll::Ready(Some(Err("the body can't be decompressed".into())))
    }
}

impl http_body::Body for Decompressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = this.next(context);
        if let Poll::Ready(Some(Err(_))) = &polled {
            this.decoder = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_none()
    }
}
