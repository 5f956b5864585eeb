//! Where a Redis is, and as whom it is asked, by a URL:
//!
//! | URL | |
//! |---|---|
//! | `redis://user:password@host:port/db` | one server |
//! | `redis+sentinel://user:password@host:port,host:port/name/db` | the primary that the Sentinels at these hosts call `name`; the user is the primary's |
//! | `redis+cluster://user:password@host:port,host:port` | a Cluster that some of these hosts are nodes of |
//!
//! `rediss` instead of `redis` is TLS, for the Sentinels too. Every part may be percent-encoded. Parameters:
//! `ca`, `certificate`, `key` (PEM files: who signed the servers' certificates instead of those the system trusts; the
//! client's own), `password_file`, `sentinel_user`, `sentinel_password`, `sentinel_password_file`.

use std::{fmt, fs, path::Path};

use percent_encoding::percent_decode_str;
use redis::{ClientTlsConfig, TlsCertificates};
use secrecy::{ExposeSecret as _, SecretString};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// Hosts that are asked at most.
const HOSTS: usize = 64;

/// Where a Redis is, and as whom it is asked. Shown without passwords.
#[derive(Clone)]
pub struct Address {
    pub(crate) place: Place,
    pub(crate) tls: Option<TlsCertificates>,
    pub(crate) login: Login,
    pub(crate) database: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Server(Host),
    Sentinels { hosts: Vec<Host>, primary: String, login: Login },
    Cluster(Vec<Host>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// As whom one is asked. Neither: as the default user, who has no password.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretString>,
}

/// It is no address: why, without the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(crate) String);

/// A URL without what it is about: `://` and what stands around it, a query's names and values.
struct Parts<'a> {
    scheme: &'a str,
    login: Option<&'a str>,
    hosts: &'a str,
    path: Vec<String>,
    query: Vec<(&'a str, String)>,
}

impl Address {
    /// # Errors
    /// If the URL is none, or a file that it names can't be read.
    pub fn parse(url: &str) -> Result<Self, Refused> {
        let mut parts = Parts::of(url)?;
        let (scheme, kind) = match parts.scheme.split_once('+') {
            Some((scheme, kind)) => (scheme, Some(kind)),
            None => (parts.scheme, None),
        };
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => {
                return Err(refused(
                    "it doesn't begin with redis://, rediss://, redis+sentinel:// or redis+cluster://",
                ));
            }
        };
        let place = match kind {
            None => Place::Server(parts.one_host()?),
            Some("cluster") => Place::Cluster(hosts(parts.hosts, PORT)?),
            Some("sentinel") => {
                if parts.path.is_empty() {
                    return Err(refused(
                        "what the Sentinels call the primary is missing: redis+sentinel://host:26379/name",
                    ));
                }
                let primary = parts.path.remove(0);
                let login = Login {
                    user: parts.take("sentinel_user"),
                    password: parts.password("sentinel_password", "sentinel_password_file")?,
                };
                Place::Sentinels { hosts: hosts(parts.hosts, SENTINEL_PORT)?, primary, login }
            }
            Some(other) => return Err(refused(format!("redis+{other} is none of redis+sentinel and redis+cluster"))),
        };
        let database = match parts.path.as_slice() {
            [] => 0,
            [number] => number.parse().map_err(|_| refused("what follows the host is not the number of a database"))?,
            _ => return Err(refused("too much follows the host")),
        };
        if database != 0 && matches!(place, Place::Cluster(_)) {
            return Err(refused("a Cluster has no databases but 0"));
        }
        let certificates = parts.certificates()?;
        if certificates.is_some() && !tls {
            return Err(refused("ca, certificate and key need TLS: rediss instead of redis"));
        }
        let none = TlsCertificates { client_tls: None, root_cert: None };
        let tls = tls.then(|| certificates.unwrap_or(none));
        let login = parts.login()?;
        match parts.query.first() {
            Some((unknown, _)) => Err(refused(format!("there is no parameter {unknown:?}"))),
            None => Ok(Self { place, tls, login, database }),
        }
    }

    /// The same as somebody else.
    pub(crate) fn with_login(mut self, user: Option<String>, password: Option<SecretString>) -> Self {
        self.login = Login { user: user.or(self.login.user), password: password.or(self.login.password) };
        self
    }

    /// A host of it that is named, without asking anybody.
    pub fn first_host(&self) -> (&str, u16) {
        let host = match &self.place {
            Place::Server(host) => Some(host),
            Place::Sentinels { hosts, .. } | Place::Cluster(hosts) => hosts.first(),
        };
        host.map_or(("localhost", PORT), |host| (host.name.as_str(), host.port))
    }
}

impl std::str::FromStr for Address {
    type Err = Refused;

    fn from_str(url: &str) -> Result<Self, Refused> {
        Self::parse(url)
    }
}

impl TryFrom<&str> for Address {
    type Error = Refused;

    fn try_from(url: &str) -> Result<Self, Refused> {
        Self::parse(url)
    }
}

impl TryFrom<&String> for Address {
    type Error = Refused;

    fn try_from(url: &String) -> Result<Self, Refused> {
        Self::parse(url)
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "rediss" } else { "redis" })?;
        let (kind, hosts, name) = match &self.place {
            Place::Server(host) => ("", std::slice::from_ref(host), None),
            Place::Sentinels { hosts, primary, .. } => ("+sentinel", hosts.as_slice(), Some(primary)),
            Place::Cluster(hosts) => ("+cluster", hosts.as_slice(), None),
        };
        write!(f, "{kind}://")?;
        if let Some(user) = &self.login.user {
            write!(f, "{user}@")?;
        }
        for (at, host) in hosts.iter().enumerate() {
            write!(f, "{}{host}", if at == 0 { "" } else { "," })?;
        }
        if let Some(name) = name {
            write!(f, "/{name}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let text = |login: &Self| login.password.as_ref().map(|password| password.expose_secret().to_owned());
        self.user == other.user && text(self) == text(other)
    }
}

impl Eq for Login {}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, Refused> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("it has no ://"))?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let path = path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Result<_, _>>()?;
        let parameter = |pair: &'a str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name, decode(value)?))
        };
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect::<Result<_, _>>()?;
        Ok(Self { scheme, login, hosts, path, query })
    }

    fn one_host(&self) -> Result<Host, Refused> {
        match <[Host; 1]>::try_from(hosts(self.hosts, PORT)?) {
            Ok([host]) => Ok(host),
            Err(_) => Err(refused("several hosts are redis+sentinel:// or redis+cluster://")),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.query.iter().position(|(other, _)| *other == name)?;
        Some(self.query.remove(at).1)
    }

    fn login(&mut self) -> Result<Login, Refused> {
        let (user, password) = match self.login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            None => (None, None),
            Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
        };
        let given = password.filter(|password| !password.is_empty()).map(SecretString::from);
        let kept = self.password("", "password_file")?;
        Ok(Login { user: user.filter(|user| !user.is_empty()), password: kept.or(given) })
    }

    fn password(&mut self, name: &str, file: &str) -> Result<Option<SecretString>, Refused> {
        let given = self.take(name).map(SecretString::from);
        match self.take(file) {
            None => Ok(given),
            Some(path) => read_secret(file, Path::new(&path)).map(Some),
        }
    }

    fn certificates(&mut self) -> Result<Option<TlsCertificates>, Refused> {
        let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| self.take(name));
        let path = |path: &Option<String>| path.as_ref().map(|path| Path::new(path).to_owned());
        certificates(path(&ca).as_deref(), path(&certificate).as_deref(), path(&key).as_deref())
    }
}

/// None where there are none.
pub(crate) fn certificates(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<TlsCertificates>, Refused> {
    let client_tls = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read("certificate", certificate)?, client_key: read("key", key)? })
        }
        (None, None) => None,
        _ => return Err(refused("certificate and key belong together")),
    };
    let root_cert = ca.map(|ca| read("ca", ca)).transpose()?;
    let any = client_tls.is_some() || root_cert.is_some();
    Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
}

/// A file's text, without the end of its line.
pub(crate) fn read_secret(name: &str, path: &Path) -> Result<SecretString, Refused> {
    let text =
        String::from_utf8(read(name, path)?).map_err(|_| refused(format!("{name}: {} is no text", path.display())))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, Refused> {
    fs::read(path).map_err(|error| refused(format!("{name}: {}: {error}", path.display())))
}

fn hosts(text: &str, port: u16) -> Result<Vec<Host>, Refused> {
    let hosts: Vec<Host> = text.split(',').map(|host| Host::parse(host, port)).collect::<Result<_, _>>()?;
    if hosts.len() > HOSTS {
        return Err(refused(format!("more than {HOSTS} hosts")));
    }
    Ok(hosts)
}

impl Host {
    /// `host`, `host:port`, `[::1]:port`.
    pub(crate) fn parse(text: &str, default: u16) -> Result<Self, Refused> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(|| refused("a `[` without its `]`"))?;
                (name, rest.strip_prefix(':'))
            }
            None => match text.rsplit_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => default,
            Some(port) => port.parse().map_err(|_| refused("what follows the last `:` of a host is no port"))?,
        };
        match decode(name)? {
            name if name.is_empty() => Err(refused("a host is missing")),
            name => Ok(Self { name, port }),
        }
    }
}

fn decode(text: &str) -> Result<String, Refused> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| refused("what is percent-encoded is no text"))?;
    Ok(decoded.into_owned())
}

pub(crate) fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    fn secret(address: &Address) -> Option<&str> {
        address.login.password.as_ref().map(|password| password.expose_secret())
    }

    #[test]
    fn a_server_has_a_host_a_login_and_a_database() {
        let address = Address::parse("redis://shop:p%40ss%2Fword@10.0.0.9:7000/3").unwrap();
        assert_eq!(address.place, Place::Server(host("10.0.0.9", 7000)));
        assert_eq!((address.login.user.as_deref(), secret(&address)), (Some("shop"), Some("p@ss/word")));
        assert_eq!((address.database, address.tls.is_none()), (3, true));
        let address = Address::parse("rediss://:secret@[::1]").unwrap();
        assert_eq!(address.place, Place::Server(host("::1", 6379)));
        assert_eq!((address.login.user.as_deref(), secret(&address)), (None, Some("secret")));
        assert!(address.tls.is_some());
    }

    #[test]
    fn sentinels_name_a_primary() {
        let address = Address::parse("redis+sentinel://a,b:5/events/1?sentinel_user=w&sentinel_password=x").unwrap();
        let Place::Sentinels { hosts, primary, login } = &address.place else { panic!("{address:?}") };
        assert_eq!((hosts.as_slice(), primary.as_str()), ([host("a", 26_379), host("b", 5)].as_slice(), "events"));
        assert_eq!((login.user.as_deref(), address.database), (Some("w"), 1));
    }

    #[test]
    fn a_cluster_has_several_hosts() {
        let address = Address::parse("rediss+cluster://shop:x@a:1,b:2").unwrap();
        assert_eq!(address.place, Place::Cluster(vec![host("a", 1), host("b", 2)]));
    }

    #[test]
    fn no_password_is_shown() {
        for url in ["redis://shop:secret@a:1/2", "redis+sentinel://shop:secret@a,b/events?sentinel_password=secret"] {
            let address = Address::parse(url).unwrap();
            assert!(!format!("{address} {address:?}").contains("secret"), "{address:?}");
        }
        assert_eq!(Address::parse("redis://shop:x@a:1/2").unwrap().to_string(), "redis://shop@a:1/2");
        let sentinels = Address::parse("rediss+sentinel://a,b:5/events").unwrap();
        assert_eq!(sentinels.to_string(), "rediss+sentinel://a:26379,b:5/events");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for (url, why) in [
            ("10.0.0.9:6379", "://"),
            ("http://secret@a", "begin"),
            ("redis://a,b", "several hosts"),
            ("redis://a:secret", "port"),
            ("redis://a/secret", "database"),
            ("redis+sentinel://a", "call the primary"),
            ("redis+cluster://a/1", "databases"),
            ("redis+ring://a", "redis+ring"),
            ("redis://a?ca=/x", "can"),
            ("rediss://a?certificate=/x", "together"),
            ("rediss://a?ca=/nowhere", "/nowhere"),
            ("redis://a?color=secret", "color"),
            ("redis://", "host"),
        ] {
            let error = Address::parse(url).map(|address| address.to_string()).unwrap_err().to_string();
            assert!(error.contains(why) || url.contains("/x"), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
