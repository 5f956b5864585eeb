//! How a configuration names a Redis: by a URL, or by parts, so that a password can come from a file or a variable.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

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
    /// Whether it names nothing: the URL is empty, as from a variable that has no value.
    pub fn is_empty(&self) -> bool {
        self.url.expose_secret().is_empty()
    }

    /// # Errors
    /// If it is no address, with the name of the part that is wrong, or a file can't be read.
    pub fn address(&self) -> Result<Address, Refused> {
        self.address_beside(Path::new(""))
    }

    /// [`Self::address`], where the parts that are files and not absolute lie in that folder.
    ///
    /// # Errors
    /// As [`Self::address`].
    pub fn address_beside(&self, folder: &Path) -> Result<Address, Refused> {
        let beside = |file: &Option<PathBuf>| file.as_ref().map(|file| folder.join(file));
        let mut address = Address::parse(self.url.expose_secret())?;
        let password = match (&self.password, beside(&self.password_file)) {
            (Some(_), Some(_)) => return Err(refused("password and password_file: one of them")),
            (password, None) => password.clone(),
            (None, Some(file)) => Some(read_secret("password_file", &file)?),
        };
        let (ca, certificate, key) = (beside(&self.ca), beside(&self.certificate), beside(&self.key));
        if let Some(own) = certificates(ca.as_deref(), certificate.as_deref(), key.as_deref())? {
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
        deserializer.deserialize_any(Written)
    }
}

// Not an untagged enum: that would swallow what is wrong with a part, and take a password of digits for a number.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL such as redis://host:6379, or url, user, password, password_file, ca, certificate, key")
    }

    fn visit_str<E>(self, url: &str) -> Result<Settings, E> {
        Ok(url.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Settings, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts {
            /// Must be said; as a variable that has no value it is empty.
            #[serde(deserialize_with = "Option::deserialize")]
            url: Option<SecretString>,
            user: Option<String>,
            password: Option<SecretString>,
            password_file: Option<PathBuf>,
            ca: Option<PathBuf>,
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
        }
        let Parts { url, user, password, password_file, ca, certificate, key } =
            Parts::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Settings { url: url.unwrap_or_default(), user, password, password_file, ca, certificate, key })
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let Self { url, user, password, password_file, ca, certificate, key } = self;
        let text = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        url.expose_secret() == other.url.expose_secret()
            && text(password) == text(&other.password)
            && (user, password_file) == (&other.user, &other.password_file)
            && (ca, certificate, key) == (&other.ca, &other.certificate, &other.key)
    }
}

impl Eq for Settings {}
