//! Refuses what came over HTTP/1.1 and is no request. It passes the layers outside like any other request, so that its
//! answer has an id, is counted and logged, and is a problem document.

use std::task::{Context, Poll};

use ::http1::{Error as Malformed, server::Refusal};
use http::Method;
use upstream::Body;

use super::{Checked, Request, Response, refuse};
use crate::error::{Error, ErrorKind};

#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

#[derive(Clone)]
pub struct Unreadable<S> {
    inner: S,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Unreadable<S>;
    fn layer(&self, inner: S) -> Unreadable<S> {
        Unreadable { inner }
    }
}

impl<S> tower::Service<Request> for Unreadable<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.extensions().get::<Refusal>() {
            None => Checked::Right(self.inner.call(request)),
            Some(refusal) => refuse(error(refusal)),
        }
    }
}

/// What stands for the request that there is none of.
pub fn request(refusal: Refusal) -> Request {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
    request.extensions_mut().insert(refusal);
    request
}

fn error(refusal: &Refusal) -> Error {
    let kind = match refusal {
        Refusal::TooSlow => ErrorKind::RequestTimeout,
        Refusal::Malformed(Malformed::TargetTooLong) => ErrorKind::UriTooLong,
        Refusal::Malformed(Malformed::FieldTooLong(_) | Malformed::TooManyFields | Malformed::FieldsTooLong) => {
            ErrorKind::HeadersTooLarge
        }
        Refusal::Malformed(Malformed::MethodTooLong | Malformed::CodingNotKnown) => ErrorKind::Unimplemented,
        Refusal::Malformed(Malformed::Version) => ErrorKind::VersionNotSupported,
        Refusal::Malformed(_) => ErrorKind::BadRequest,
    };
    Error::new(kind, refusal.to_string())
}

#[cfg(test)]
mod tests {
    use tower::{Layer as _, ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn what_is_no_request_goes_no_further() {
        let service = || Layer.layer(service_fn(|_: Request| async { Ok::<_, Error>(Response::new(Body::empty())) }));
        for (refusal, kind) in [
            (Refusal::TooSlow, ErrorKind::RequestTimeout),
            (Malformed::BareLf.into(), ErrorKind::BadRequest),
            (Malformed::FieldTooLong(None).into(), ErrorKind::HeadersTooLarge),
            (Malformed::CodingNotKnown.into(), ErrorKind::Unimplemented),
            (Malformed::Version.into(), ErrorKind::VersionNotSupported),
        ] {
            let error = service().oneshot(request(refusal)).await.unwrap_err();
            assert_eq!(error.kind, kind);
        }
        assert!(service().oneshot(Request::new(Body::empty())).await.is_ok());
    }
}
