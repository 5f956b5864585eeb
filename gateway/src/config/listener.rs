//! `listeners:` where clients connect, and how what they say is kept secret.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Networks;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Port 0 takes a free one. Can't change while the gateway runs.
    pub address: SocketAddr,
    /// TLS; without it the listener speaks plain HTTP.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Answers every request that didn't come by https with a redirect to https at this port; by default they are served.
    #[serde(default)]
    pub redirect_https: Option<u16>,
    /// Networks of proxies that begin each connection with the PROXY protocol (version 1 or 2), which says who the client
    /// is; none by default. Their connections must begin so, others can't.
    #[serde(default)]
    pub proxy_protocol: Networks,
}

/// `tls: { certificate: cert.pem, key: key.pem }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file: the certificate, then those that signed it. It serves every name that no other certificate has, and
    /// clients that ask for none.
    pub certificate: PathBuf,
    /// A PEM file with its private key (PKCS #8, PKCS #1 or SEC 1), not encrypted.
    pub key: PathBuf,
    /// Further certificates, each for the names it holds. An exact name goes before a wildcard; where two hold the same
    /// name, the first that the client can verify (RSA, ECDSA) is taken.
    #[serde(default)]
    pub more: Vec<Pair>,
    /// The oldest version that is spoken; default 1.2.
    #[serde(default)]
    pub min_version: Version,
    /// What is offered beneath TLS, best first; default `[h2, http/1.1]`.
    #[serde(default = "protocols")]
    pub alpn: Vec<Protocol>,
    /// Who clients must show to be; by default nobody is asked.
    #[serde(default)]
    pub client: Option<Client>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `client: { ca: ca.pem, mode: required }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// A PEM file with the authorities whose certificates are accepted.
    pub ca: PathBuf,
    /// Whether a client without a certificate is turned away (the default) or served as one that is not known. One with
    /// a certificate that is not good is turned away either way.
    #[serde(default)]
    pub mode: Mode,
    /// A PEM file with revocation lists, one for each authority in use: with it, a certificate whose authority has none is
    /// not accepted.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Version {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

// Without quotes it is a number.
impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Protocol {
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "http/1.1")]
    Http1,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Required,
    Optional,
}

fn protocols() -> Vec<Protocol> {
    vec![Protocol::Http2, Protocol::Http1]
}

impl Tls {
    /// Every file it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.more.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        let client = self.client.iter().flat_map(|client| std::iter::once(&client.ca).chain(&client.crl));
        [&self.certificate, &self.key].into_iter().chain(pairs).chain(client)
    }
}

impl Protocol {
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Properties};

    fn read(tls: &str) -> Result<Tls, String> {
        let text = format!("listeners: [{{address: '127.0.0.1:0', tls: {tls}}}]\n");
        let config = Config::parse(&text, &Properties::new()).map_err(|errors| errors[0].to_string())?;
        config.listeners.into_iter().next().and_then(|listener| listener.tls).ok_or_else(|| "no TLS".to_owned())
    }

    #[test]
    fn a_certificate_and_its_key_are_enough() {
        let tls = read("{certificate: a.pem, key: a.key}").unwrap();
        assert_eq!((tls.min_version, tls.client.is_none()), (Version::Tls12, true));
        assert_eq!(tls.alpn, [Protocol::Http2, Protocol::Http1]);
        assert!(read("{certificate: a.pem}").is_err());
    }

    #[test]
    fn every_file_is_named() {
        let text = "{certificate: a, key: b, more: [{certificate: c, key: d}], min_version: 1.3, alpn: [h2],\
                    client: {ca: e, crl: f, mode: optional}}";
        let tls = read(text).unwrap();
        let files: Vec<_> = tls.files().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(files, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!((tls.min_version, tls.client.unwrap().mode), (Version::Tls13, Mode::Optional));
    }

    #[test]
    fn versions_that_are_broken_can_not_be_asked_for() {
        for version in ["1.1", "1.0", "'1.4'"] {
            let error = read(&format!("{{certificate: a, key: b, min_version: {version}}}")).unwrap_err();
            assert!(error.contains("1.2"), "{error}");
        }
    }
}
