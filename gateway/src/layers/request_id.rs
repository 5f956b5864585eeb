//! Gives every request its id and its [`RequestContext`], and tells the client and the upstream the id.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use pin_project_lite::pin_project;
use telemetry::TraceContext;

use super::{Request, Response};
use crate::{address::Proxies, context::RequestContext, tls::ClientCertificate};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request came in: set by the server on each.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// Its IP address as upstreams are told it: written once for all requests of a connection.
    pub ip: HeaderValue,
    /// The listener is bound to a loopback address.
    pub loopback: bool,
    /// It came within TLS.
    pub secure: bool,
    /// Where to send it, if the listener serves only what comes by https.
    pub https_port: Option<u16>,
    /// Who the client showed to be by TLS, where the listener asks for it.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Peer {
    pub fn new(address: SocketAddr, loopback: bool) -> Self {
        let ip = HeaderValue::try_from(address.ip().to_string()).unwrap_or(UNSPECIFIED);
        Self { address, ip, loopback, secure: false, https_port: None, certificate: None }
    }
}

/// Knows whose word counts about who is behind them.
#[derive(Clone, Debug, Default)]
pub struct Layer(pub Arc<Proxies>);

#[derive(Clone)]
pub struct RequestId<S> {
    inner: S,
    proxies: Arc<Proxies>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = RequestId<S>;
    fn layer(&self, inner: S) -> RequestId<S> {
        RequestId { inner, proxies: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for RequestId<S>
where
    S: tower::Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Naming<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // A request that no server of ours took in is trusted with nothing.
        let (address, loopback, secure) = match request.extensions().get::<Peer>() {
            Some(peer) => (peer.address, peer.loopback, peer.secure),
            None => (NOWHERE, false, false),
        };
        let (id, header) = accepted(request.headers()).unwrap_or_else(generate);
        request.headers_mut().insert(X_REQUEST_ID, header.clone());
        let trace = telemetry::extract(request.headers());
        let begins_trace = trace.is_none();
        let mut context = RequestContext::new(id, trace.unwrap_or_else(TraceContext::unsampled), address);
        context.begins_trace = begins_trace;
        context.loopback = loopback;
        context.secure = secure;
        if !self.proxies.networks.is_empty()
            && let Some(said) = self.proxies.said(address, request.headers())
        {
            context.behind(said);
        }
        request.extensions_mut().insert(context);
        Naming { inner: self.inner.call(request), header: Some(header) }
    }
}

pin_project! {
    pub struct Naming<F> {
        #[pin]
        inner: F,
        header: Option<HeaderValue>,
    }
}

impl<F, E> Future for Naming<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        if let Some(header) = this.header.take() {
            response.headers_mut().insert(X_REQUEST_ID, header);
        }
        Poll::Ready(Ok(response))
    }
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
const UNSPECIFIED: HeaderValue = HeaderValue::from_static("0.0.0.0");

/// The caller's own id, if it can stand in a log line as it is.
fn accepted(headers: &HeaderMap) -> Option<(Arc<str>, HeaderValue)> {
    let header = headers.get(X_REQUEST_ID)?;
    let sane =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'=' | b'+');
    let text =
        header.to_str().ok().filter(|text| (1..=128).contains(&text.len()) && text.as_bytes().iter().all(sane))?;
    Some((text.into(), header.clone()))
}

fn generate() -> (Arc<str>, HeaderValue) {
    let mut text = [0; 32];
    telemetry::write_hex(&rand::random::<[u8; 16]>(), &mut text);
    let id = std::str::from_utf8(&text).unwrap_or_default().into();
    let header = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"));
    (id, header)
}

#[cfg(test)]
mod tests {
    use tower::{Layer as _, ServiceExt as _, service_fn};
    use upstream::Body;

    use super::*;

    async fn answer(id: Option<&str>) -> (String, String) {
        let service = Layer::default().layer(service_fn(|request: Request| async move {
            let seen = RequestContext::of(&request).map(|context| context.request_id.to_string()).unwrap_or_default();
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(seen)))
        }));
        let mut request = Request::new(Body::empty());
        if let Some(id) = id {
            request.headers_mut().insert(X_REQUEST_ID, id.parse().unwrap());
        }
        let response = service.oneshot(request).await.unwrap();
        let echoed = response.headers()[X_REQUEST_ID].to_str().unwrap().to_owned();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (echoed, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_sane_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(answer(Some("abc-123")).await, ("abc-123".to_owned(), "abc-123".to_owned()));
        for other in [None, Some(""), Some("a b"), Some("a\"b"), Some(&*"x".repeat(129))] {
            let (echoed, seen) = answer(other).await;
            assert_eq!(echoed, seen);
            assert_eq!(echoed.len(), 32, "{other:?}");
        }
    }
}
