//! What a certificate says of itself.

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::sha256;

/// A certificate, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    /// The DNS names and addresses it is good for.
    pub names: Vec<String>,
    pub subject: String,
    pub issuer: String,
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    pub fingerprint_sha256: String,
}

impl Described {
    /// None if it is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let moment = |time: &x509_parser::time::ASN1Time| OffsetDateTime::from_unix_timestamp(time.timestamp()).ok();
        let validity = certificate.validity();
        Some(Self {
            names: alternatives(&certificate).filter_map(host).collect(),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: moment(&validity.not_before)?,
            not_after: moment(&validity.not_after)?,
            fingerprint_sha256: fingerprint(der),
        })
    }

    /// What it is called where there is room for one name.
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.subject)
    }

    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.not_after < now
    }
}

/// Lower-case hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    sha256(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every subject alternative name.
pub fn alternatives<'a>(certificate: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.into_iter().flat_map(|extension| &extension.value.general_names)
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    }
}

pub fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}
