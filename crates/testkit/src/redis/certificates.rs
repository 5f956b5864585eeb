//! Certificates for a test: an authority, and what it signed for a server on `localhost` and for a client.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// As files, which go with the last clone.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<TempDir>);

impl Certificates {
    /// For `localhost` and 127.0.0.1; the client is called `turnpike`.
    ///
    /// # Panics
    /// If they can't be made or written.
    pub fn make() -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-certificates-").tempdir().expect("a temporary folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name = named("authority of a test");
        let key = KeyPair::generate().expect("a key");
        let certificate = authority.self_signed(&key).expect("a certificate");
        write(folder.path(), "ca.crt", &certificate.pem());
        let issuer = Issuer::new(authority, key);
        for (name, hosts) in [("localhost", vec!["localhost".to_owned(), "127.0.0.1".to_owned()]), ("turnpike", vec![])]
        {
            let mut params = CertificateParams::new(hosts).expect("names");
            params.distinguished_name = named(name);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            write(folder.path(), &format!("{name}.crt"), &certificate.pem());
            write(folder.path(), &format!("{name}.key"), &key.serialize_pem());
        }
        Self(Arc::new(folder))
    }

    /// Who signed all of them.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// The client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("turnpike.crt"), self.file("turnpike.key"))
    }

    /// The certificate and key of a server on `localhost`.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.file("localhost.crt"), self.file("localhost.key"))
    }

    /// As Redis is told of them.
    pub(super) fn of_the_server(&self) -> [(&'static str, PathBuf); 3] {
        let (certificate, key) = self.server();
        [("tls-cert-file", certificate), ("tls-key-file", key), ("tls-ca-cert-file", self.authority())]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("a file in the folder");
}
