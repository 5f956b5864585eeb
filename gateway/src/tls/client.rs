//! Who a client shows to be by its certificate.

use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::described::{address, alternatives, fingerprint};

/// A client certificate that an authority of the listener has signed: valid, not revoked, its key proven by the
/// handshake. It travels with each request of the connection, in [`Peer::certificate`](crate::layers::request_id::Peer),
/// for whoever makes a principal of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its first URI (a SPIFFE id, say), else its first DNS name, else its common name, else `sha256:` and the
    /// fingerprint. An authority decides what it signs: two authorities can give two clients one subject.
    pub subject: String,
    /// Every subject alternative name that is a URI, a DNS name, an e-mail address or an IP address.
    pub san: Vec<String>,
    /// Of the certificate as a whole, in lower-case hexadecimal.
    pub fingerprint_sha256: String,
    pub not_after: OffsetDateTime,
}

impl ClientCertificate {
    /// None if it is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let fingerprint_sha256 = fingerprint(der);
        let uri =
            |name: &GeneralName<'_>| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None };
        let dns = |name: &GeneralName<'_>| {
            if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
        };
        let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()).map(str::to_owned);
        let subject = alternatives(&certificate)
            .find_map(uri)
            .or_else(|| alternatives(&certificate).find_map(dns))
            .or_else(common)
            .filter(|subject| !subject.is_empty())
            .unwrap_or_else(|| format!("sha256:{fingerprint_sha256}"));
        let not_after = OffsetDateTime::from_unix_timestamp(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            subject,
            san: alternatives(&certificate).filter_map(text).collect(),
            fingerprint_sha256,
            not_after,
        })
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn signed(edit: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common");
        edit(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(certificate.der()).unwrap()
    }

    #[test]
    fn a_uri_goes_before_a_dns_name_before_a_common_name() {
        let dns = SanType::DnsName("Worker.Test".try_into().unwrap());
        let uri = SanType::URI("spiffe://test/worker".try_into().unwrap());
        assert_eq!(signed(|_| ()).subject, "common");
        assert_eq!(signed(|params| params.subject_alt_names = vec![dns.clone()]).subject, "worker.test");
        let both = signed(|params| params.subject_alt_names = vec![dns, uri]);
        assert_eq!((both.subject.as_str(), both.san.len()), ("spiffe://test/worker", 2));
    }

    #[test]
    fn a_certificate_without_a_name_is_called_by_its_fingerprint() {
        let nameless = signed(|params| params.distinguished_name = rcgen::DistinguishedName::new());
        assert_eq!(nameless.subject, format!("sha256:{}", nameless.fingerprint_sha256));
        assert_eq!(nameless.fingerprint_sha256.len(), 64);
    }
}
