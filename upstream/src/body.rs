//! The one body type of the data plane, so that the codec beneath can change without anyone above noticing. The kinds
//! that every request meets are variants; what is transformed on its way, or comes in parts, is boxed: each layer moves a
//! body twice, so that it has to be small.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use crate::{config::MAX_REPEATABLE, http1, http2};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response on the data plane, whatever codec or transformation it comes from.
pub struct Body(Inner, Option<Watching>, Option<EditTrailers>);

/// What is done to the fields that follow a body.
pub type EditTrailers = fn(&mut HeaderMap);

/// Is told what becomes of bodies, without their being wrapped or boxed for it.
pub trait Watch: Send + Sync {
    /// So many bytes of data were taken out of a body.
    fn passed(&self, way: Way, bytes: usize);
    /// A body is gone; `whole` if all of it had been taken out.
    fn ended(&self, way: Way, whole: bool);
}

/// Which of the two bodies of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Request,
    Response,
}

struct Watching {
    watch: Arc<dyn Watch>,
    way: Way,
    whole: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.ended(self.way, self.whole);
    }
}

enum Inner {
    Empty,
    Full(Option<Bytes>),
    Incoming(hyper::body::Incoming),
    Request(::http1::server::RequestBody),
    Http1(Box<http1::ResponseBody>),
    Http2(Box<http2::ResponseBody>),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    pub const fn empty() -> Self {
        Self(Inner::Empty, None, None)
    }

    /// Has `watch` told what becomes of the body from now on.
    pub fn watched(mut self, way: Way, watch: Arc<dyn Watch>) -> Self {
        let whole = self.0.is_end_stream();
        self.1 = Some(Watching { watch, way, whole });
        self
    }

    /// Has the fields that may follow the body changed as they pass.
    pub fn with_trailers(mut self, edit: EditTrailers) -> Self {
        self.2 = Some(edit);
        self
    }

    /// Any other body: a stream that is transformed or limited on its way.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        use http_body_util::BodyExt as _;
        Self(Inner::Boxed(Box::pin(body.map_err(Into::into))), None, None)
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
        let bytes = match &mut self.0 {
            Inner::Empty => Bytes::new(),
            Inner::Full(bytes) => bytes.take().unwrap_or_default(),
            _ => return None,
        };
        if let Some(watching) = &mut self.1 {
            watching.whole = true;
            watching.watch.passed(watching.way, bytes.len());
        }
        Some(bytes)
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
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(Some(bytes)), None, None) }
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
        if body.is_end_stream() { Self::empty() } else { Self(Inner::Incoming(body), None, None) }
    }
}

impl From<::http1::server::RequestBody> for Body {
    fn from(body: ::http1::server::RequestBody) -> Self {
        if http_body::Body::size_hint(&body).exact() == Some(0) {
            Self::empty()
        } else {
            Self(Inner::Request(body), None, None)
        }
    }
}

impl From<http1::ResponseBody> for Body {
    fn from(body: http1::ResponseBody) -> Self {
        Self(Inner::Http1(Box::new(body)), None, None)
    }
}

impl From<http2::ResponseBody> for Body {
    fn from(body: http2::ResponseBody) -> Self {
        Self(Inner::Http2(Box::new(body)), None, None)
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
        let Self(inner, watching, edit) = self.get_mut();
        let mut polled = inner.poll_frame(context);
        if let (Some(edit), Poll::Ready(Some(Ok(frame)))) = (edit, &mut polled)
            && let Some(trailers) = frame.trailers_mut()
        {
            edit(trailers);
        }
        if let Some(watching) = watching {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    watching.whole = inner.is_end_stream();
                    if let Some(data) = frame.data_ref() {
                        watching.watch.passed(watching.way, data.len());
                    }
                }
                Poll::Ready(None) => watching.whole = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Inner {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Incoming(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Request(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Http1(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Http2(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Boxed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Request(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Incoming(body) => body.size_hint(),
            Self::Request(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_body_is_small() {
        assert!(size_of::<Body>() <= 80, "{}, its kind {}", size_of::<Body>(), size_of::<Inner>());
    }

    #[derive(Default)]
    struct Told(Mutex<(usize, Option<bool>)>);

    impl Watch for Told {
        fn passed(&self, way: Way, bytes: usize) {
            assert_eq!(way, Way::Response);
            self.0.lock().0 += bytes;
        }
        fn ended(&self, _: Way, whole: bool) {
            assert_eq!(self.0.lock().1.replace(whole), None, "once");
        }
    }

    fn stream() -> Body {
        let frames = ["one", "three"].map(|data| Ok::<_, BoxError>(Frame::data(Bytes::from(data))));
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn whoever_watches_is_told_how_much_passed_and_whether_that_was_all() {
        for (body, frames, told) in [
            (Body::from("three"), 1, (5, Some(true))),
            (Body::from("three"), 0, (0, Some(false))),
            (Body::empty(), 0, (0, Some(true))),
            (stream(), 3, (8, Some(true))),
            (stream(), 1, (3, Some(false))),
        ] {
            let watch = Arc::new(Told::default());
            let mut body = body.watched(Way::Response, Arc::clone(&watch) as Arc<dyn Watch>);
            for _ in 0..frames {
                _ = body.frame().await;
            }
            assert_eq!(watch.0.lock().1, None);
            drop(body);
            assert_eq!(*watch.0.lock(), told);
        }
    }
}
