//! HTTP towards endpoints. Names are resolved once a connection, every address is checked, and what was checked is what is
//! connected to. No redirect is followed, an answer is read to 4 KiB and no further, its headers to 64 KiB, and all of it has one timeout.

use std::{
    error::Error as StdError,
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client as Legacy,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tower::Service;

use crate::{
    Error,
    guard::{Guard, literal},
};

/// Of an answer's body.
const MOST_ANSWER: usize = 4096;
/// Of what is read at once of an answer, its headers among it; and of the headers in HTTP/2.
const MOST_HEAD: usize = 64 * 1024;
const MOST_HEAD_2: u32 = 64 * 1024;
/// What an endpoint may send over HTTP/2 before it is read.
const WINDOW: u32 = 64 * 1024;
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 8;

/// Resolves names; the system's resolver but in tests.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub(crate) struct System;

#[async_trait]
impl Names for System {
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    http: Legacy<HttpsConnector<HttpConnector<Checked>>, Full<Bytes>>,
    guard: Guard,
    timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The first of it.
    pub body: Bytes,
}

/// Why nothing came back; whether the request was read isn't known but where it was refused here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The guard doesn't allow the address.
    Refused(String),
    Timeout(String),
    Unreachable(String),
}

/// A request's answer, and how long it took.
#[derive(Debug)]
pub(crate) struct Tried {
    pub answer: Result<Answer, Fault>,
    pub took: Duration,
}

impl Client {
    /// `authorities`: in PEM, believed besides Mozilla's.
    pub fn new(
        guard: Guard,
        names: Arc<dyn Names>,
        authorities: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new_with_resolver(Checked { guard, names });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(authorities)?)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let http = Legacy::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MOST_HEAD)
            .http2_max_header_list_size(MOST_HEAD_2)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW)
            // A request that may have been read is the schedule's to repeat.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self { http, guard, timeout })
    }

    /// One POST.
    pub async fn post(&self, address: &str, headers: HeaderMap, body: Bytes) -> Tried {
        let begun = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.exchange(address, headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Timeout(format!("no answer within {:?}", self.timeout))),
        };
        Tried { answer, took: begun.elapsed() }
    }

    async fn exchange(&self, address: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, Fault> {
        // Again: what is allowed may have changed since it was registered.
        let uri: Uri = self.guard.read(address).map_err(|reason| Fault::Refused(format!("the address {reason}")))?;
        if literal(&uri).is_some_and(|address| !self.guard.allows(address)) {
            return Err(Fault::Refused(NotAllowed.to_string()));
        }
        let mut request = Request::post(uri).body(Full::new(body)).map_err(|error| unreachable(&error))?;
        *request.headers_mut() = headers;
        let response = self.http.request(request).await.map_err(|error| fault(&error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body: beginning(body).await })
    }
}

/// Whose certificates are believed.
fn tls(authorities: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = authorities {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| refuse(&error))?;
            roots.add(certificate).map_err(|error| refuse(&error))?;
        }
        if roots.len() == before {
            return Err(refuse(&"holds no certificate"));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Stored(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn refuse(reason: &dyn fmt::Display) -> Error {
    Error::Invalid(format!("authorities: {reason}"))
}

/// The first of a body. One that breaks off is what came until then: the status has been said.
async fn beginning(mut body: Incoming) -> Bytes {
    let mut read = Vec::new();
    while read.len() < MOST_ANSWER
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MOST_ANSWER - read.len())]);
        }
    }
    read.into()
}

/// Resolves names to addresses that may be connected to.
#[derive(Clone)]
struct Checked {
    guard: Guard,
    names: Arc<dyn Names>,
}

#[derive(Debug, thiserror::Error)]
#[error("the address is in a network that nothing is sent into")]
struct NotAllowed;

impl Service<Name> for Checked {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { guard, names } = self.clone();
        Box::pin(async move {
            let addresses = names.resolve(name.as_str()).await?;
            // One that isn't allowed among those that are is a trap, or a mistake.
            if addresses.iter().any(|address| !guard.allows(address.ip())) {
                return Err(NotAllowed.into());
            }
            Ok(addresses.into_iter())
        })
    }
}

fn fault(error: &hyper_util::client::legacy::Error) -> Fault {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotAllowed>() {
            return Fault::Refused(error.to_string());
        }
        cause = error.source();
    }
    unreachable(error)
}

/// An error with its causes.
fn unreachable(error: &dyn StdError) -> Fault {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Fault::Unreachable(text)
}
