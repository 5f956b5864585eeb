//! Client certificates as credentials. That one is valid, and its key the client's, was proven by the handshake.

use std::sync::Arc;

use principal::Principal;
use time::OffsetDateTime;

use super::{Credential, Origin, keys::digest};
use crate::{config::Mtls, recent::Recent, tls::ClientCertificate};

/// Certificates whose principals are at hand.
const AT_HAND: usize = 10_000;

/// Makes principals of certificates.
pub struct Certificates {
    rules: Mtls,
    /// By fingerprint.
    at_hand: Recent<[u8; 32], Arc<Credential>>,
}

impl Certificates {
    pub fn new(rules: Mtls) -> Self {
        Self { rules, at_hand: Recent::new(AT_HAND) }
    }

    /// Who shows it. None where it speaks for nobody: it has expired since the connection was opened, or says to be a
    /// service of our own.
    pub fn known(&self, certificate: &ClientCertificate, now: OffsetDateTime) -> Option<Arc<Credential>> {
        if certificate.not_after <= now {
            return None;
        }
        let name = digest(certificate.fingerprint_sha256.as_bytes());
        if let Some(credential) = self.at_hand.get(&name, |credential| Arc::clone(credential)) {
            return Some(credential);
        }
        let subject = format!("{}{}", self.rules.subject_prefix, certificate.subject);
        if subject.starts_with("/services/") || subject.chars().any(char::is_control) {
            return None;
        }
        let principal = Principal { subject, scopes: self.rules.scopes.clone(), ..Principal::default() };
        let credential = Arc::new(Credential::new(principal, Origin::Certificate, None));
        self.at_hand.insert(name, Arc::clone(&credential));
        Some(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &str) -> ClientCertificate {
        ClientCertificate {
            subject: subject.to_owned(),
            san: Vec::new(),
            fingerprint_sha256: subject.len().to_string(),
            not_after: OffsetDateTime::UNIX_EPOCH + time::Duration::days(365),
        }
    }

    #[test]
    fn a_certificate_speaks_for_its_subject_until_it_expires() {
        let rules = Mtls { subject_prefix: "machines/".to_owned(), scopes: vec!["feed".to_owned()] };
        let certificates = Certificates::new(rules);
        let known = |subject: &str, days| {
            let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(days);
            certificates.known(&certificate(subject), now).map(|credential| credential.principal.clone())
        };
        let expected =
            Principal { subject: "machines/till".into(), scopes: vec!["feed".into()], ..Principal::default() };
        assert_eq!((known("till", 1), known("till", 2)), (Some(expected.clone()), Some(expected)));
        assert_eq!(known("till", 365), None);
        assert!(
            Certificates::new(Mtls::default()).known(&certificate("/services/x"), OffsetDateTime::UNIX_EPOCH).is_none()
        );
    }
}
