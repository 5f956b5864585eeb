//! Bounds what a request may bring: its URI (414), its headers (431; 400 for two of what is one), its body (413). A body
//! without a length is counted as it is read, and its request refused when it goes too far.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use ::http1::server::{BodyError, Fate};
use bytes::Bytes;
use http::{HeaderName, header};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use upstream::{Body, BoxError};

use super::{Checked, Request, Response, refuse};
use crate::{
    config::{Limits as Config, Size},
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// Fields that two readers of one request must not be able to read differently. Of Host and of credentials those take care
/// who read them.
const SINGLE: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::ORIGIN,
    header::RANGE,
    HeaderName::from_static("sec-fetch-site"),
];

#[derive(Clone)]
pub struct Layer(pub Arc<Config>);

#[derive(Clone)]
pub struct Limits<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Limits<S>;
    fn layer(&self, inner: S) -> Limits<S> {
        Limits { inner, config: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for Limits<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Bounded<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.config.bound(request) {
            Ok((request, exceeded)) => {
                let fate = request.extensions().get::<Fate>().cloned();
                Checked::Right(Bounded { inner: self.inner.call(request), exceeded, fate })
            }
            Err(error) => refuse(error),
        }
    }
}

/// Set when a body went beyond its bound, with the bound.
type Exceeded = Option<(Arc<AtomicBool>, u64)>;

impl Config {
    fn bound(&self, request: Request) -> Result<(Request, Exceeded), Error> {
        self.check_head(&request)?;
        let bound = RequestContext::of(&request)?.route()?.policy.body;
        match request.body().size_hint().exact() {
            Some(length) if length <= bound => Ok((request, None)),
            Some(_) => Err(too_large(bound)),
            None => {
                let exceeded = Arc::new(AtomicBool::new(false));
                let (parts, body) = request.into_parts();
                let body = Body::new(Counted { body, left: bound, exceeded: Arc::clone(&exceeded) });
                Ok((Request::from_parts(parts, body), Some((exceeded, bound))))
            }
        }
    }

    fn check_head(&self, request: &Request) -> Result<(), Error> {
        let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if uri as u64 > self.uri.0 {
            return Err(Error::new(ErrorKind::UriTooLong, format!("path and query are longer than {}", self.uri)));
        }
        let large = |detail: String| Err(Error::new(ErrorKind::HeadersTooLarge, detail));
        if request.headers().len() > self.header_count {
            return large(format!("there are more than {} headers", self.header_count));
        }
        let mut total = 0;
        let mut before = None;
        for (name, value) in request.headers() {
            // Lines of one name come one after the other.
            if before.replace(name) == Some(name) && SINGLE.contains(name) {
                return Err(Error::new(ErrorKind::BadRequest, format!("there is more than one {name}")));
            }
            // As on the wire: name, colon, space, value, end of line.
            let size = (name.as_str().len() + value.len() + 4) as u64;
            if size > self.header.0 {
                return large(format!("the header {name} is longer than {}", self.header));
            }
            total += size;
        }
        if total > self.headers.0 {
            return large(format!("the headers are longer than {} together", self.headers));
        }
        Ok(())
    }
}

fn too_large(bound: u64) -> Error {
    Error::new(ErrorKind::BodyTooLarge, format!("the body is larger than {}", Size(bound)))
}

pin_project! {
    pub struct Bounded<F> {
        #[pin]
        inner: F,
        exceeded: Exceeded,
        // Of a body that came over HTTP/1.1.
        fate: Option<Fate>,
    }
}

impl<F> Future for Bounded<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match ready!(this.inner.poll(context)) {
            Ok(response) => return Poll::Ready(Ok(response)),
            Err(error) => error,
        };
        // Whatever the action made of a body that broke off, this is why it did.
        Poll::Ready(Err(match (this.exceeded, this.fate.as_ref().and_then(Fate::error)) {
            (Some((exceeded, bound)), _) if exceeded.load(Relaxed) => too_large(*bound),
            (_, Some(why @ BodyError::TooSlow)) => Error::new(ErrorKind::RequestTimeout, why.to_string()),
            (_, Some(why @ BodyError::Malformed(_))) => Error::new(ErrorKind::BadRequest, why.to_string()),
            _ => error,
        }))
    }
}

/// A body that breaks off beyond its bound.
struct Counted {
    body: Body,
    left: u64,
    exceeded: Arc<AtomicBool>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.exceeded.store(true, Relaxed);
                    return Poll::Ready(Some(Err("the body is larger than allowed".into())));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
