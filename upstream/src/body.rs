//! The one body type of the data plane, so that the codec beneath can change without anyone above noticing. The kinds
//! that every request meets are variants; only what is transformed on its way is boxed.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{config::MAX_REPEATABLE, http1, http2};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response on the data plane, whatever codec or transformation it comes from.
pub struct Body(Inner);

enum Inner {
    Empty,
    Full(Option<Bytes>),
    Incoming(hyper::body::Incoming),
    Http1(http1::ResponseBody),
    Http2(http2::ResponseBody),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// Any other body: a stream that is transformed or limited on its way.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        use http_body_util::BodyExt as _;
        Self(Inner::Boxed(Box::pin(body.map_err(Into::into))))
    }

    /// Whether all of it is in memory: nobody will wait for it.
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Inner::Empty | Inner::Full(_))
    }

    /// The whole body, where it is in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Full(bytes) => bytes.as_ref(),
            _ => None,
        }
    }

    /// The whole body, where it is in memory; it is empty afterwards.
    pub(crate) fn take_bytes(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Inner::Empty => Some(Bytes::new()),
            Inner::Full(bytes) => Some(bytes.take().unwrap_or_default()),
            _ => None,
        }
    }

    /// The same body once more, where it is in memory and no larger than 64 KiB.
    pub fn repeat(&self) -> Option<Self> {
        match &self.0 {
            Inner::Empty => Some(Self::empty()),
            Inner::Full(bytes) => {
                let bytes = bytes.clone().unwrap_or_default();
                (bytes.len() <= MAX_REPEATABLE).then(|| bytes.into())
            }
            _ => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(Some(bytes))) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self(Inner::Incoming(body))
    }
}

impl From<http1::ResponseBody> for Body {
    fn from(body: http1::ResponseBody) -> Self {
        Self(Inner::Http1(body))
    }
}

impl From<http2::ResponseBody> for Body {
    fn from(body: http2::ResponseBody) -> Self {
        Self(Inner::Http2(body))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("size", &http_body::Body::size_hint(self)).finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Incoming(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Inner::Http1(body) => Pin::new(body).poll_frame(context),
            Inner::Http2(body) => Pin::new(body).poll_frame(context),
            Inner::Boxed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(bytes) => bytes.is_none(),
            Inner::Incoming(body) => body.is_end_stream(),
            Inner::Http1(body) => body.is_end_stream(),
            Inner::Http2(body) => body.is_end_stream(),
            Inner::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Inner::Incoming(body) => body.size_hint(),
            Inner::Http1(body) => body.size_hint(),
            Inner::Http2(body) => body.size_hint(),
            Inner::Boxed(body) => body.size_hint(),
        }
    }
}
