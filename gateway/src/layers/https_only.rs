//! Sends clients of a plain listener that asks for it to the same address by https. Who already came by https, as a
//! trusted proxy says, is served.

use std::{
    future::ready,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderValue, StatusCode, header, uri::Authority};
use upstream::Body;

use super::{Checked, Request, Response, refuse, request_id::Peer};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// Whether any listener asks for it.
#[derive(Clone, Copy)]
pub struct Layer(pub bool);

#[derive(Clone)]
pub struct HttpsOnly<S> {
    inner: S,
    asked_for: bool,
}

impl<S> tower::Layer<S> for Layer {
    type Service = HttpsOnly<S>;
    fn layer(&self, inner: S) -> HttpsOnly<S> {
        HttpsOnly { inner, asked_for: self.0 }
    }
}

impl<S> tower::Service<Request> for HttpsOnly<S>
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
        let port = if self.asked_for { port(&request) } else { None };
        match port.map(|port| elsewhere(&request, port)) {
            None => Either::Right(self.inner.call(request)),
            Some(Some(location)) => {
                let mut response = Response::new(Body::empty());
                // Method and body stay what they are.
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                response.headers_mut().insert(header::LOCATION, location);
                Either::Left(ready(Ok(response)))
            }
            Some(None) => refuse(Error::new(ErrorKind::BadRequest, "only https is served here")),
        }
    }
}

/// The port to go to, if this request is to go.
fn port(request: &Request) -> Option<u16> {
    let port = request.extensions().get::<Peer>()?.https_port?;
    let secure = RequestContext::of(request).is_ok_and(|context| context.secure);
    (!secure).then_some(port)
}

/// None where it isn't said which host was asked for.
fn elsewhere(request: &Request, port: u16) -> Option<HeaderValue> {
    let named = || request.headers().get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = request.uri().authority().cloned().or_else(named)?;
    let host = Some(authority.host()).filter(|host| !host.is_empty())?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = if port == 443 { format!("https://{host}{path}") } else { format!("https://{host}:{port}{path}") };
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uri: &str, host: Option<&str>, port: u16) -> Option<String> {
        let mut request = http::Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let location = elsewhere(&request.body(Body::empty()).unwrap(), port)?;
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_address_stays_what_it_was_but_for_scheme_and_port() {
        assert_eq!(told("/a?b=c", Some("shop.test:8080"), 443).unwrap(), "https://shop.test/a?b=c");
        assert_eq!(told("/a", Some("[::1]:80"), 8443).unwrap(), "https://[::1]:8443/a");
        assert_eq!(told("http://shop.test/x", None, 443).unwrap(), "https://shop.test/x");
        assert_eq!(told("/a", None, 443), None);
        assert_eq!(told("/a", Some("a b"), 443), None);
    }
}
