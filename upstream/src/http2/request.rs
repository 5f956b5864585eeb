//! A request's body on its way into a stream: no more of it is read than the stream takes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::{
    Body,
    error::{Cause, Failure},
};

/// Sends what is in hand at once; what comes later is left to the returned future.
pub(super) fn upload(mut stream: SendStream<Bytes>, mut body: Body, is_end: bool) -> Result<Option<Upload>, Failure> {
    if is_end {
        return Ok(None);
    }
    let Some(bytes) = body.take_bytes() else {
        return Ok(Some(Upload { stream, body, chunk: Bytes::new() }));
    };
    // h2 keeps what the window doesn't take yet; it is in memory anyway.
    stream
        .send_data(bytes, true)
        .map_err(|error| Failure::new(Cause::Broken, format!("the stream takes no data: {error}")))?;
    Ok(None)
}

/// Sends a body as it comes. Ends well where the peer wants no more of it: the response tells what it made of it.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// Read but not yet sent.
    chunk: Bytes,
}

impl Future for Upload {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if !this.chunk.is_empty() {
                let Some(room) = ready!(this.poll_room(context)) else { return Poll::Ready(Ok(())) };
                let part = this.chunk.split_to(room.min(this.chunk.len()));
                let is_last = this.chunk.is_empty() && this.body.is_end_stream();
                if this.stream.send_data(part, is_last).is_err() || is_last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if this.stream.poll_reset(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => {
                    let _ = this.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => {
                    this.stream.send_reset(Reason::CANCEL);
                    let detail = format!("the request's body can't be read: {error}");
                    return Poll::Ready(Err(Failure::new(Cause::RequestBody, detail)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => this.chunk = chunk,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            let _ = this.stream.send_trailers(trailers);
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
            }
        }
    }
}

impl Upload {
    /// How much of the chunk the stream takes now; None where it takes no more at all.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.chunk.len());
        while self.stream.capacity() == 0 {
            if !matches!(ready!(self.stream.poll_capacity(context)), Some(Ok(_))) {
                return Poll::Ready(None);
            }
        }
        Poll::Ready(Some(self.stream.capacity()))
    }
}
