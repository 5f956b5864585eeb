//! Fetching a key set: one GET, bounded in time and size, that follows nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// The most that a fetch takes.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const LARGEST: usize = 256 * 1024;

/// Fetches one URL.
pub struct Fetcher {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// Whether keys may come from here.
///
/// # Errors
/// Why not.
pub fn check_url(url: &str, plain_http: bool) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let Some(host) = uri.host() else { return Err("must be a whole URL such as https://id.example/jwks".to_owned()) };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("keys are public: a URL without a name or password in it".to_owned());
    }
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if loopback || plain_http => Ok(uri),
        Some("http") => Err("whoever is on the way could put in keys: https, or plain_http: true".to_owned()),
        _ => Err("must begin with https://".to_owned()),
    }
}

/// The certificates of a PEM text.
///
/// # Errors
/// If it holds none, or one that makes no sense.
pub fn authorities(text: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        roots.add(certificate.context("not a certificate")?).context("not a certificate")?;
    }
    anyhow::ensure!(!roots.is_empty(), "holds no certificate");
    Ok(roots)
}

impl Fetcher {
    /// `roots`: who vouches for the server, instead of those that the web trusts.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn new(uri: Uri, roots: Option<RootCertStore>) -> anyhow::Result<Self> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let connector = match roots {
            Some(roots) => builder.with_tls_config(
                ClientConfig::builder_with_provider(Arc::new(provider))
                    .with_safe_default_protocol_versions()
                    .context("TLS")?
                    .with_root_certificates(roots)
                    .with_no_client_auth(),
            ),
            None => builder.with_provider_and_webpki_roots(provider).context("TLS")?,
        };
        let connector = connector.https_or_http().enable_http1().build();
        // It is used once in minutes: no connection is worth keeping.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { uri, client })
    }

    /// # Errors
    /// Why there is no answer that could be a key set.
    pub async fn fetch(&self) -> anyhow::Result<Bytes> {
        tokio::time::timeout(TIMEOUT, self.get()).await.unwrap_or_else(|_| bail!("no answer within {TIMEOUT:?}"))
    }

    async fn get(&self) -> anyhow::Result<Bytes> {
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "turnpike")
            .body(Empty::new())?;
        let response = self.client.request(request).await.map_err(|error| anyhow::anyhow!("{}", root(&error)))?;
        if response.status() != StatusCode::OK {
            bail!("answered {}", response.status());
        }
        match Limited::new(response.into_body(), LARGEST).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => bail!("its answer can't be read, or has more than {LARGEST} bytes: {error}"),
        }
    }
}

fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_tls_or_from_this_machine() {
        for good in ["https://id.example/jwks", "http://127.0.0.1:1/a", "http://localhost/", "http://[::1]:8080/"] {
            assert!(check_url(good, false).is_ok(), "{good}");
        }
        assert!(check_url("https://me:secret@id.example/jwks", false).is_err());
        for bad in ["http://id.example/", "http://127.0.0.1.evil.example/", "ftp://id.example/", "/jwks", "", "id"] {
            assert!(check_url(bad, false).is_err(), "{bad}");
        }
        assert!(check_url("http://id.internal/", true).is_ok());
    }
}
