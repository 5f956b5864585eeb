//! How a configuration names a Redis: by a URL, or by parts, so that a password can come from a file or a variable.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use crate::{
    Address, Refused,
    address::{certificates, read_secret, refused},
};

/// `redis: redis://host:6379`, or `redis: {url: rediss://host:6379, user: shop, password_file: /run/secrets/redis}`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// See [`Address::parse`]; what it says of these the others overrule.
    url: SecretString,
    user: Option<String>,
    password: Option<SecretString>,
    /// A file that holds the password.
    password_file: Option<PathBuf>,
    /// PEM: who signed the servers' certificates; by default whom the system trusts.
    ca: Option<PathBuf>,
    /// PEM: the client's own.
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Settings {
    /// # Errors
    /// If it is no address, with the name of the part that is wrong, or a file can't be read.
    pub fn address(&self) -> Result<Address, Refused> {
        use secrecy::ExposeSecret as _;
        let mut address = Address::parse(self.url.expose_secret())?;
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => return Err(refused("password and password_file: one of them")),
            (password, None) => password.clone(),
            (None, Some(file)) => Some(read_secret("password_file", file)?),
        };
        if let Some(own) = certificates(self.ca.as_deref(), self.certificate.as_deref(), self.key.as_deref())? {
            let tls = address.tls.as_mut();
            let tls = tls.ok_or_else(|| refused("ca, certificate and key need TLS: rediss instead of redis"))?;
            tls.client_tls = own.client_tls.or(tls.client_tls.take());
            tls.root_cert = own.root_cert.or(tls.root_cert.take());
        }
        Ok(address.with_login(self.user.clone(), password))
    }
}

impl From<&str> for Settings {
    fn from(url: &str) -> Self {
        let url = SecretString::from(url);
        Self { url, user: None, password: None, password_file: None, ca: None, certificate: None, key: None }
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Url(String),
            Parts(Parts),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts {
            url: SecretString,
            user: Option<String>,
            password: Option<SecretString>,
            password_file: Option<PathBuf>,
            ca: Option<PathBuf>,
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
        }
        let expecting = "a URL such as redis://host:6379, or url, user, password, password_file, ca, certificate, key";
        Ok(match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(expecting))? {
            Written::Url(url) => url.as_str().into(),
            Written::Parts(Parts { url, user, password, password_file, ca, certificate, key }) => {
                Self { url, user, password, password_file, ca, certificate, key }
            }
        })
    }
}
