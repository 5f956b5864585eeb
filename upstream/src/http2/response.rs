//! A response's body on its way out of a stream. The window opens as the body is read: an unread one holds at most a
//! stream window.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::connection::Stream;
use crate::{Body, BoxError, lane::UnderWay};

/// Dropped before its end, it resets the stream.
pub(crate) struct ResponseBody {
    received: RecvStream,
    state: State,
    /// What ends with the response.
    held: Option<Held>,
}

#[derive(PartialEq)]
enum State {
    Data,
    Trailers,
    End,
}

struct Held {
    _upload: Option<AbortOnDropHandle<()>>,
    _stream: Stream,
    _under_way: UnderWay,
}

impl ResponseBody {
    pub fn wrap(
        received: RecvStream,
        upload: Option<AbortOnDropHandle<()>>,
        stream: Stream,
        under_way: UnderWay,
    ) -> Body {
        if received.is_end_stream() {
            return Body::empty();
        }
        let held = Some(Held { _upload: upload, _stream: stream, _under_way: under_way });
        Body::from(Self { received, state: State::Data, held })
    }

    fn end<T>(&mut self, last: Option<T>) -> Poll<Option<T>> {
        self.state = State::End;
        self.held = None;
        Poll::Ready(last)
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.state == State::Data {
            match ready!(this.received.poll_data(context)) {
                Some(Ok(data)) => {
                    // Fails only on a stream that is gone, whose next poll says so.
                    let _ = this.received.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // RFC 9113, 8.1: the response is whole, the rest of the request isn't wanted.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => return this.end(None),
                Some(Err(error)) => return this.end(Some(Err(error.into()))),
                None => this.state = State::Trailers,
            }
        }
        if this.state == State::Trailers {
            return match ready!(this.received.poll_trailers(context)) {
                Ok(Some(trailers)) => this.end(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => this.end(None),
                Err(error) if error.reason() == Some(Reason::NO_ERROR) => this.end(None),
                Err(error) => this.end(Some(Err(error.into()))),
            };
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::End || self.received.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
