//! Reads request bodies out of their coding where the route's action reads the body, or the route says so. What comes
//! out is held to the route's body limit (never above 100 MiB) and to a hundred times what went in: 413. A coding that
//! is not known is a 415. Everything else passes as it is.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use pin_project_lite::pin_project;
use upstream::Body;

use super::{Checked, Request, Response, refuse};
use crate::{
    coding::{Coding, Decoder, Decompressed, Fault, Outcome, RATIO, Slots},
    config::Size,
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// The most a body may become.
const MOST: u64 = 100 << 20;

#[derive(Clone, Default)]
pub struct Layer(pub Slots);

#[derive(Clone)]
pub struct Decompress<S> {
    inner: S,
    slots: Slots,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Decompress<S>;
    fn layer(&self, inner: S) -> Decompress<S> {
        Decompress { inner, slots: self.0.clone() }
    }
}

impl<S> tower::Service<Request> for Decompress<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Decompressing<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match decoded(request, &self.slots) {
            Ok((request, reading)) => Checked::Right(Decompressing { inner: self.inner.call(request), reading }),
            Err(error) => refuse(error),
        }
    }
}

/// What becomes of a body that is being read, and its limit.
type Reading = Option<(Outcome, u64)>;

fn decoded(mut request: Request, slots: &Slots) -> Result<(Request, Reading), Error> {
    if !request.headers().contains_key(header::CONTENT_ENCODING) || request.body().is_end_stream() {
        return Ok((request, None));
    }
    let policy = &RequestContext::of(&request)?.route()?.policy;
    if !policy.decompress {
        return Ok((request, None));
    }
    let limit = policy.body.min(MOST);
    let coding = coding(request.headers())?;
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_ENCODING);
    let Some(coding) = coding else { return Ok((request, None)) };
    headers.remove(header::CONTENT_LENGTH);
    let slot = slots.take().ok_or_else(|| {
        Error::new(ErrorKind::Overloaded, "too many bodies are being decompressed: try again soon")
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    })?;
    let decoder = Decoder::new(coding, limit)
        .map_err(|error| Error::new(ErrorKind::Internal, "the gateway made a mistake").cause(error))?;
    let outcome = Outcome::default();
    let request = request.map(|body| Body::new(Decompressed::new(body, decoder, outcome.clone(), slot)));
    Ok((request, Some((outcome, limit))))
}

/// None: `identity`.
///
/// # Errors
/// 415 for one that is not known, and for several on top of each other.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let name = values.next().map_or(&b""[..], |value| value.as_bytes().trim_ascii());
    if values.next().is_none() {
        if name.eq_ignore_ascii_case(b"identity") {
            return Ok(None);
        }
        if let Some(coding) = Coding::named(name) {
            return Ok(Some(coding));
        }
    }
    Err(Error::new(ErrorKind::UnsupportedMediaType, "the body's content coding is not one that is read here")
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("br, zstd, gzip")))
}

fn refusal(fault: Fault, limit: u64) -> Error {
    match fault {
        Fault::Malformed => Error::new(ErrorKind::BadRequest, "the body is not what its content coding says"),
        Fault::TooLarge => {
            Error::new(ErrorKind::BodyTooLarge, format!("the body is larger than {}, decompressed", Size(limit)))
        }
        Fault::Ratio => {
            Error::new(ErrorKind::BodyTooLarge, format!("the body becomes more than {RATIO} times as large"))
        }
    }
}

pin_project! {
    pub struct Decompressing<F> {
        #[pin]
        inner: F,
        reading: Reading,
    }
}

impl<F> Future for Decompressing<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(context));
        Poll::Ready(match (result, this.reading) {
            // Whatever the action made of a body that broke off, this is why it did.
            (Err(error), Some((outcome, limit))) => Err(outcome.fault().map_or(error, |fault| refusal(fault, *limit))),
            (result, _) => result,
        })
    }
}
