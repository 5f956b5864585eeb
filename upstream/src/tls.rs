//! TLS towards endpoints, by rustls: whose certificates are believed, which name they must hold, what is shown of one's
//! own. Every certificate is verified; there is no way to switch that off, and no early data, which can be replayed.

use std::{fmt, io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, InvalidMessage, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{ConfigError, Protocol};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// How connections to the endpoints are secured. It holds what the files hold, so that two are equal only where those are.
#[derive(Clone, Default, PartialEq)]
pub struct Tls {
    /// The authorities that are believed, in PEM. None: those of the system (what `SSL_CERT_FILE` names, else where the
    /// distribution keeps them); where it has none, Mozilla's, as they were when this was built.
    pub authorities: Option<Vec<u8>>,
    /// The name that certificates must hold. None: the host of the endpoint, or the name it was found by.
    pub server_name: Option<String>,
    /// What is shown to a service that asks who calls. None: nothing.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone, PartialEq)]
pub struct Identity {
    /// In PEM: the certificate, then those that signed it.
    pub certificate: Vec<u8>,
    /// In PEM, not encrypted.
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.as_ref().map(Vec::len))
            .field("server_name", &self.server_name)
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// What begins TLS on a connection.
pub(crate) struct Encryption {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
    /// What the service must choose, where that isn't HTTP/1.1, which needn't be chosen.
    demands: Option<&'static [u8]>,
}

impl Encryption {
    pub fn new(tls: &Tls, protocol: Protocol) -> Result<Self, ConfigError> {
        let server_name = match &tls.server_name {
            None => None,
            Some(name) => Some(server_name(name).ok_or_else(|| fault("server_name", "is no host name"))?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault("", &error.to_string()))?;
        let mut config = show(believe(builder, tls)?, tls)?;
        let demands = match protocol {
            Protocol::Http1 => None,
            Protocol::Http2 | Protocol::Grpc => Some(HTTP2),
        };
        config.alpn_protocols = vec![demands.unwrap_or(HTTP1).to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name, demands })
    }

    /// Shakes hands. `host`: the name that the certificate must hold where the configuration doesn't say.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn begin(&self, socket: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let name = self.server_name.clone().or_else(|| server_name(host));
        let name = name.ok_or_else(|| format!("`{host}` is no name that a certificate could hold"))?;
        let stream = self.connector.connect(name, socket).await.map_err(|error| why(&error))?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if self.demands.is_some_and(|protocol| chosen != Some(protocol)) {
            return Err("it doesn't choose HTTP/2 (ALPN `h2`)".to_owned());
        }
        Ok(stream)
    }
}

fn believe(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    tls: &Tls,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(pem) => {
            for authority in certificates("ca", pem)? {
                roots.add(authority).map_err(|error| {
                    fault("ca", &format!("holds a certificate that can't be an authority: {error}"))
                })?;
            }
        }
        None => {
            let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
    }
    Ok(builder.with_root_certificates(roots))
}

fn show(builder: ConfigBuilder<ClientConfig, WantsClientCert>, tls: &Tls) -> Result<ClientConfig, ConfigError> {
    let Some(identity) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("certificate", &identity.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|_| fault("key", "holds no private key that can be read; it must not be encrypted"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => fault("key", "is not the key of the certificate"),
        error => fault("certificate", &format!("can't be used: {error}")),
    })
}

fn certificates(place: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(fault(place, "holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(fault(place, &format!("is not PEM: {error}"))),
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    // An IPv6 address has brackets in an authority, and none in a certificate.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).ok()
}

fn fault(place: &str, message: &str) -> ConfigError {
    let separator = if place.is_empty() { "" } else { "." };
    ConfigError { path: format!("tls{separator}{place}"), message: message.to_owned() }
}

/// Why a handshake failed, as an operator needs it.
fn why(error: &io::Error) -> String {
    use rustls::Error;
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "it hung up within the handshake".to_owned();
    }
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else {
        return error.to_string();
    };
    match cause {
        Error::InvalidCertificate(wrong) => format!("its certificate {}", fault_of(wrong)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "it doesn't speak TLS".to_owned(),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => "it speaks another protocol (ALPN)".to_owned(),
        Error::AlertReceived(alert) => format!("it ended the handshake: {alert:?}"),
        other => other.to_string(),
    }
}

fn fault_of(certificate: &CertificateError) -> String {
    match certificate {
        CertificateError::UnknownIssuer => "is signed by no authority that is believed here".to_owned(),
        CertificateError::BadSignature => "is not signed by the authority that it names".to_owned(),
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is for {}, not for {}", presented.join(", "), expected.to_str())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet".to_owned(),
        other => format!("can't be trusted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn identity() -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        Identity { certificate: certificate.pem().into(), key: key.serialize_pem().into() }
    }

    fn path_of(tls: &Tls) -> Option<String> {
        Encryption::new(tls, Protocol::Grpc).err().map(|error| error.path)
    }

    #[test]
    fn the_least_is_sound() {
        assert_eq!(path_of(&Tls::default()), None);
        let all = Tls {
            authorities: Some(identity().certificate),
            server_name: Some("10.0.0.1".to_owned()),
            identity: Some(identity()),
        };
        assert_eq!(path_of(&all), None);
    }

    #[test]
    fn each_fault_names_its_place() {
        let with = |identity| Tls { identity: Some(identity), ..Tls::default() };
        let believing = |pem: &[u8]| Tls { authorities: Some(pem.to_vec()), ..Tls::default() };
        let pem = |text: &str| text.as_bytes().to_vec();
        assert_eq!(path_of(&believing(b"")).as_deref(), Some("tls.ca"));
        assert_eq!(path_of(&believing(&identity().key)).as_deref(), Some("tls.ca"));
        let named = Tls { server_name: Some("not a name".to_owned()), ..Tls::default() };
        assert_eq!(path_of(&named).as_deref(), Some("tls.server_name"));
        assert_eq!(
            path_of(&with(Identity { certificate: pem("x"), ..identity() })).as_deref(),
            Some("tls.certificate")
        );
        assert_eq!(path_of(&with(Identity { key: pem("x"), ..identity() })).as_deref(), Some("tls.key"));
        assert_eq!(path_of(&with(Identity { key: identity().key, ..identity() })).as_deref(), Some("tls.key"));
    }

    #[test]
    fn no_key_is_shown() {
        let tls = Tls { identity: Some(identity()), ..Tls::default() };
        assert_eq!(format!("{tls:?}"), "Tls { authorities: None, server_name: None, identity: true }");
    }
}
