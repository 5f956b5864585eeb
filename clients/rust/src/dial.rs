//! From a URL to a WebSocket: TCP, TLS where the URL says so, the handshake.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        handshake::client::{Request, Response},
        http::{HeaderName, HeaderValue, Uri},
        protocol::WebSocketConfig,
    },
};

use crate::{Error, Options, backoff::later, link::Ended};

const SUBPROTOCOL: &str = "turnpike.v1";
/// What the broker sends is an event with what is around it.
const MOST_BYTES: usize = 4 << 20;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;

/// Where to, and as whom.
#[derive(Clone)]
pub(crate) struct Dial {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    request: Request,
}

impl Dial {
    /// `ws`, `wss`, `http` or `https`; `/ws` is added to the path unless it ends so.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self, Error> {
        let invalid = |detail: String| Error::new("invalid", format!("{url}: {detail}"));
        let uri: Uri = url.parse().map_err(|error| invalid(format!("{error}")))?;
        let secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(invalid("must begin with ws://, wss://, http:// or https://".to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| invalid("names no host".to_owned()))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        let path = if path.ends_with("/ws") { path.to_owned() } else { format!("{path}/ws") };
        let scheme = if secure { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{authority}{path}")
            .into_client_request()
            .map_err(|error| invalid(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        for (name, value) in &options.headers {
            let field = HeaderName::try_from(name).map_err(|_| invalid(format!("{name}: is no header field")))?;
            let value = HeaderValue::try_from(value).map_err(|_| invalid(format!("{name}: has no such value")))?;
            headers.append(field, value);
        }
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|error| invalid(error.to_string()))?;
            let config = match &options.tls {
                Some(config) => config.clone(),
                None => believing(options.authorities.as_deref())?,
            };
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        Ok(Self { host, port, tls, request })
    }

    pub(crate) async fn dial(self) -> Result<Socket, Ended> {
        let Self { host, port, tls, request } = self;
        let lost = |error: std::io::Error| Ended::lost(error.to_string());
        let stream = TcpStream::connect((host, port)).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let stream: Box<dyn Io> = match tls {
            Some((connector, name)) => Box::new(connector.connect(name, stream).await.map_err(without_tls)?),
            None => Box::new(stream),
        };
        let config = WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => Err(refusal(&answer)),
            Err(error) => Err(Ended::lost(error.to_string())),
        }
    }
}

/// An answer that is no upgrade: what passes, and what doesn't.
fn refusal(answer: &Response) -> Ended {
    let status = answer.status().as_u16();
    let problem: serde_json::Value =
        answer.body().as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let detail = problem["detail"].as_str().map_or_else(|| format!("the server answers {status}"), str::to_owned);
    let code = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or("refused");
    let error = Error::new(code.to_owned(), detail);
    match status {
        408 | 425 | 429 => {}
        400..=499 => return Ended::Refused(error),
        ..=399 => return Ended::Astray(error),
        _ => {}
    }
    let wait = answer.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
    Ended::Lost { reason: error.detail().to_owned(), after: wait.map(|seconds| later(Duration::from_secs(seconds))) }
}

fn without_tls(error: std::io::Error) -> Ended {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            Ended::Astray(Error::new("tls", format!("the server is not believed: {error}")))
        }
        _ => Ended::lost(format!("no TLS: {error}")),
    }
}

/// A client without a certificate of its own, that believes these authorities (PEM) or the system's.
fn believing(authorities: Option<&[u8]>) -> Result<Arc<ClientConfig>, Error> {
    let tls = |error: rustls::Error| Error::new("tls", error.to_string());
    let roots = match authorities {
        Some(pem) => named(pem).map_err(|detail| Error::new("invalid", format!("authorities: {detail}")))?,
        None => system(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn named(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate is in it".to_owned()) } else { Ok(roots) }
}

/// The system's authorities, or those of the web where there are none.
fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(url: &str) -> Result<(String, u16, String, bool), String> {
        let dial = Dial::new(url, &Options::default().header("x-api-key", "k")).map_err(|error| error.to_string())?;
        assert_eq!(dial.request.headers()["x-api-key"], "k");
        assert_eq!(dial.request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
        Ok((dial.host, dial.port, dial.request.uri().path().to_owned(), dial.tls.is_some()))
    }

    #[test]
    fn a_url_says_where_and_how() {
        let at = |host: &str, port, path: &str, tls| Ok((host.to_owned(), port, path.to_owned(), tls));
        assert_eq!(asks("ws://127.0.0.1:7010"), at("127.0.0.1", 7010, "/ws", false));
        assert_eq!(asks("https://shop.example/"), at("shop.example", 443, "/ws", true));
        assert_eq!(asks("wss://shop.example:8443/bus/ws"), at("shop.example", 8443, "/bus/ws", true));
        assert_eq!(asks("http://[::1]/bus"), at("::1", 80, "/bus/ws", false));
        for url in ["", "shop.example", "ftp://shop.example", "ws://", "ws://a b"] {
            assert!(asks(url).is_err(), "{url}");
        }
        assert!(Dial::new("ws://a", &Options::default().header("a b", "c")).is_err());
        for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let refused = Dial::new("wss://a", &Options::default().authorities(pem)).err().unwrap();
            assert!(refused.detail().starts_with("authorities: "), "{refused}");
        }
    }
}
