//! Which certificate a client gets, by the name it asks for.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Certificates by name, exact ones before wildcards, and the one for all other names.
#[derive(Debug)]
pub struct Resolver {
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the star's dot.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Resolver {
    pub fn new(default: Arc<CertifiedKey>) -> Self {
        Self { default, exact: HashMap::new(), wildcard: HashMap::new() }
    }

    /// Adds a certificate under a name. Returns whether another with the same kind of key has it already, which then
    /// goes first.
    pub fn add(&mut self, name: &str, certificate: &Arc<CertifiedKey>) -> bool {
        let under = match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.entry(parent.to_owned()),
            None => self.exact.entry(name.to_owned()),
        };
        let there = under.or_default();
        let hidden = there.iter().any(|other| other.key.algorithm() == certificate.key.algorithm());
        there.push(Arc::clone(certificate));
        hidden
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let candidates = name.map_or(&[][..], |name| self.named(name));
        let usable = candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some());
        Arc::clone(usable.or(candidates.first()).unwrap_or(&self.default))
    }

    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&name).or_else(wildcard).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name(), hello.signature_schemes()))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    fn certificate(algorithm: &'static SignatureAlgorithm) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], key, &default_provider()).unwrap())
    }

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

    #[test]
    fn an_exact_name_goes_before_a_wildcard_before_the_default() {
        let [default, exact, wildcard] = std::array::from_fn(|_| certificate(&PKCS_ECDSA_P256_SHA256));
        let mut resolver = Resolver::new(Arc::clone(&default));
        assert!(!resolver.add("a.test", &exact));
        assert!(!resolver.add("*.test", &wildcard));
        for (name, expected) in [
            (Some("a.test"), &exact),
            (Some("A.TEST"), &exact),
            (Some("b.test"), &wildcard),
            (Some("a.b.test"), &default),
            (Some("test"), &default),
            (Some("*.test"), &wildcard),
            (Some("other"), &default),
            (None, &default),
        ] {
            assert!(Arc::ptr_eq(&resolver.find(name, ECDSA), expected), "{name:?}");
        }
    }

    #[test]
    fn of_two_with_one_name_the_client_gets_one_it_can_verify() {
        let (default, edwards, curve) =
            (certificate(&PKCS_ED25519), certificate(&PKCS_ED25519), certificate(&PKCS_ECDSA_P256_SHA256));
        let mut resolver = Resolver::new(default);
        assert!(!resolver.add("a.test", &edwards));
        assert!(!resolver.add("a.test", &curve), "another kind of key");
        assert!(resolver.add("a.test", &certificate(&PKCS_ED25519)), "hidden by the first");
        assert!(Arc::ptr_eq(&resolver.find(Some("a.test"), ECDSA), &curve));
        assert!(Arc::ptr_eq(&resolver.find(Some("a.test"), &[SignatureScheme::ED25519]), &edwards));
        assert!(Arc::ptr_eq(&resolver.find(Some("a.test"), &[]), &edwards));
    }
}
