//! HTTP towards a channel's provider: one client for all, with its connections kept, TLS by rustls, an answer of bounded
//! size. Redirects are not followed: a message goes where the operator said, or nowhere.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::aws_lc_rs;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tracing::Span;

/// Of an answer's body; what is more is not read.
const MAX_ANSWER: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(60);
/// The longest that a provider may put off the next attempt.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Where requests go: an `https:` address, or `http:` where that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

pub(crate) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    /// Empty where it is too long or broke off: the status has been said by then.
    pub body: Bytes,
}

impl Http {
    pub fn new() -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(Arc::new(aws_lc_rs::default_provider()))
            .context("TLS")?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(8)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self(client))
    }

    /// One POST. The caller bounds its time.
    ///
    /// # Errors
    /// Why there was no answer; whether the request was read isn't known then.
    pub async fn post(&self, endpoint: &Endpoint, headers: HeaderMap, body: Bytes) -> Result<Answer, String> {
        let span = Span::current();
        span.record("http.request.method", "POST");
        span.record("server.address", endpoint.host());
        span.record("server.port", endpoint.port());
        let mut request = Request::post(endpoint.0.clone()).body(Full::new(body)).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("turnpike-notifier"));
        let response = self.0.request(request).await.map_err(|error| reason(&error))?;
        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(Answer { status, retry_after, body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default() })
    }
}

impl Endpoint {
    /// # Errors
    /// If it is no address of HTTP, or one without TLS that isn't this machine's and not allowed.
    pub fn parse(text: &str, plain: bool) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "must be an https: address".to_owned())?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err("must not hold a password".to_owned());
        }
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) if !host.is_empty() => Ok(Self(uri)),
            (Some("http"), Some(host)) if plain || is_loopback(host) => Ok(Self(uri)),
            (Some("http"), Some(_)) => Err("must be an https: address, unless plain_http is true".to_owned()),
            _ => Err("must be an https: address".to_owned()),
        }
    }

    /// The same with more to its path.
    pub fn below(&self, path: &str) -> Result<Self, String> {
        format!("{}{path}", self.0.to_string().trim_end_matches('/')).parse().map(Self).map_err(|_| path.to_owned())
    }

    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.0.scheme_str() == Some("http") { 80 } else { 443 })
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an answer that isn't a success may be another one later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let seconds = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
            Duration::try_from(date - OffsetDateTime::now_utc()).unwrap_or_default()
        }
    };
    Some(seconds.min(MAX_RETRY_AFTER))
}

/// An error with its causes.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_unless_allowed() {
        for fine in ["https://api.example", "http://127.0.0.1:9/x", "http://localhost", "http://[::1]:80/"] {
            assert!(Endpoint::parse(fine, false).is_ok(), "{fine}");
        }
        for wrong in ["", "ftp://a", "/x", "http://api.example", "https://user:pw@api.example", "http://127.0.0.1.evil"]
        {
            assert!(Endpoint::parse(wrong, false).is_err(), "{wrong}");
        }
        assert!(Endpoint::parse("http://gateway.internal", true).is_ok());
        let endpoint = Endpoint::parse("https://api.example/base/", false).unwrap().below("/x.json").unwrap();
        assert_eq!(endpoint.0, "https://api.example/base/x.json");
    }

    #[test]
    fn when_to_come_again_is_read_as_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
