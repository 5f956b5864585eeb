//! From a `tls:` section to what accepts its handshakes.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{
        ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;

use super::{Described, Seen, resolver::Resolver, sha256};
use crate::config::{
    ConfigError,
    listener::{Client, Mode, Tls, Version},
};

/// Sessions of TLS 1.2 that are kept for clients that know no tickets; all others keep theirs themselves, encrypted.
const SESSIONS: usize = 4096;

/// A listener's TLS.
pub struct Terminator {
    pub server: Arc<ServerConfig>,
    /// In the order of the configuration: the first is the default one.
    pub certificates: Vec<Described>,
    pub loaded_at: OffsetDateTime,
    section: Tls,
    files: Vec<Seen>,
    sessions: Sessions,
}

/// What lets a client resume a session instead of beginning anew. A resumed session isn't verified again, so it lives no
/// longer than the rules it was verified by.
#[derive(Clone)]
struct Sessions {
    tickets: Arc<dyn ProducesTickets>,
    kept: Arc<dyn StoresServerSessions>,
    verified_by: (Option<Client>, Vec<Seen>),
}

impl Terminator {
    /// Reads every file the section names. With nothing changed it is the previous one. Notes are what is no mistake,
    /// but good to know.
    ///
    /// # Errors
    /// Everything that is wrong, with its path below the section.
    pub fn load(
        section: &Tls,
        folder: &Path,
        previous: Option<&Arc<Self>>,
    ) -> Result<(Arc<Self>, Vec<ConfigError>), Vec<ConfigError>> {
        let mut reading =
            Reading { folder, provider: Arc::new(aws_lc_rs::default_provider()), seen: Vec::new(), errors: Vec::new() };
        let pairs = reading.pairs(section);
        let verifier = reading.verifier(section.client.as_ref());
        let Reading { provider, seen, mut errors, .. } = reading;
        if section.alpn.is_empty() {
            errors.push(ConfigError::new("alpn", "there must be at least one"));
        }
        let (Some(pairs), Some((verifier, verified_by)), true) = (pairs, verifier, errors.is_empty()) else {
            return Err(errors);
        };
        let (resolver, notes) = names(&pairs);
        if let Some(same) = previous.filter(|previous| previous.section == *section && previous.files == seen) {
            return Ok((Arc::clone(same), notes));
        }
        let verified_by = (section.client.clone(), verified_by);
        let sessions = match previous.map(|previous| &previous.sessions) {
            Some(sessions) if sessions.verified_by == verified_by => sessions.clone(),
            _ => Sessions::new(verified_by).map_err(|error| vec![ConfigError::new("", error.to_string())])?,
        };
        let versions: &[&SupportedProtocolVersion] = match section.min_version {
            Version::Tls12 => &[&TLS13, &TLS12],
            Version::Tls13 => &[&TLS13],
        };
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| vec![ConfigError::new("min_version", error.to_string())])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = section.alpn.iter().map(|protocol| protocol.name().to_vec()).collect();
        server.ticketer = Arc::clone(&sessions.tickets);
        server.session_storage = Arc::clone(&sessions.kept);
        let terminator = Self {
            server: Arc::new(server),
            certificates: pairs.into_iter().map(|pair| pair.described).collect(),
            loaded_at: OffsetDateTime::now_utc(),
            section: section.clone(),
            files: seen,
            sessions,
        };
        Ok((Arc::new(terminator), notes))
    }
}

impl Terminator {
    /// What clients must show: `none`, `optional` or `required`.
    pub fn clients(&self) -> &'static str {
        match self.section.client.as_ref().map(|client| client.mode) {
            None => "none",
            Some(Mode::Optional) => "optional",
            Some(Mode::Required) => "required",
        }
    }
}

impl Sessions {
    fn new(verified_by: (Option<Client>, Vec<Seen>)) -> Result<Self, rustls::Error> {
        let tickets = aws_lc_rs::Ticketer::new()?;
        Ok(Self { tickets, kept: ServerSessionMemoryCache::new(SESSIONS), verified_by })
    }
}

/// A certificate with its key, and where it stands in the section.
struct Pair {
    place: String,
    certified: Arc<CertifiedKey>,
    described: Described,
}

/// Reads files, and collects what is wrong with them.
struct Reading<'a> {
    folder: &'a Path,
    provider: Arc<CryptoProvider>,
    seen: Vec<Seen>,
    errors: Vec<ConfigError>,
}

impl Reading<'_> {
    fn pairs(&mut self, section: &Tls) -> Option<Vec<Pair>> {
        let first = (String::new(), &section.certificate, &section.key);
        let more = section.more.iter().enumerate();
        let more = more.map(|(at, pair)| (format!("more[{at}]."), &pair.certificate, &pair.key));
        let pairs: Vec<_> = std::iter::once(first)
            .chain(more)
            .map(|(place, certificate, key)| self.pair(place, certificate, key))
            .collect();
        pairs.into_iter().collect()
    }

    fn pair(&mut self, place: String, certificate: &Path, key: &Path) -> Option<Pair> {
        let chain =
            self.sections::<CertificateDer<'static>>(&format!("{place}certificate"), certificate, "certificate");
        let at = format!("{place}key");
        let key = self.content(&at, key).and_then(|content| {
            let read = PrivateKeyDer::from_pem_slice(&content);
            read.map_err(|_| self.fault(&at, "holds no private key that can be read; it must not be encrypted")).ok()
        });
        let (chain, key) = (chain?, key?);
        let Some(described) = chain.first().and_then(|leaf| Described::read(leaf)) else {
            self.fault(&format!("{place}certificate"), "its first certificate can't be read");
            return None;
        };
        match CertifiedKey::from_der(chain, key, &self.provider) {
            Ok(certified) => Some(Pair { place, certified: Arc::new(certified), described }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                self.fault(&at, "is not the key of the certificate");
                None
            }
            Err(error) => {
                self.fault(&at, &format!("can't be used: {error}"));
                None
            }
        }
    }

    /// Who judges client certificates, and by which files.
    fn verifier(&mut self, client: Option<&Client>) -> Option<(Arc<dyn ClientCertVerifier>, Vec<Seen>)> {
        let Some(client) = client else {
            return Some((WebPkiClientVerifier::no_client_auth(), Vec::new()));
        };
        let before = self.seen.len();
        let authorities = self.sections::<CertificateDer<'static>>("client.ca", &client.ca, "certificate");
        let lists = match &client.crl {
            Some(file) => self.sections::<CertificateRevocationListDer<'static>>("client.crl", file, "revocation list"),
            None => Some(Vec::new()),
        };
        let (authorities, lists) = (authorities?, lists?);
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            if let Err(error) = roots.add(authority) {
                self.fault("client.ca", &format!("holds a certificate that can't be an authority: {error}"));
                return None;
            }
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).with_crls(lists);
        let builder = match client.mode {
            Mode::Required => builder,
            Mode::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| self.fault("client", &error.to_string())).ok()?;
        Some((verifier, self.seen[before..].to_vec()))
    }

    /// Everything of a kind that a PEM file holds, which must be something.
    fn sections<T: PemObject>(&mut self, place: &str, file: &Path, kind: &str) -> Option<Vec<T>> {
        let content = self.content(place, file)?;
        match T::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>() {
            Ok(found) if !found.is_empty() => Some(found),
            Ok(_) => {
                self.fault(place, &format!("holds no {kind} in PEM"));
                None
            }
            Err(error) => {
                self.fault(place, &format!("is not PEM: {error}"));
                None
            }
        }
    }

    fn content(&mut self, place: &str, file: &Path) -> Option<Vec<u8>> {
        let file = self.folder.join(file);
        match fs::read(&file) {
            Ok(content) => {
                self.seen.push((file, sha256(&content)));
                Some(content)
            }
            Err(error) => {
                self.fault(place, &format!("{}: {error}", file.display()));
                None
            }
        }
    }

    fn fault(&mut self, place: &str, message: &str) {
        self.errors.push(ConfigError::new(place, message));
    }
}

/// Sorts certificates by their names, and notes those that will disappoint.
fn names(pairs: &[Pair]) -> (Resolver, Vec<ConfigError>) {
    let mut resolver = Resolver::new(Arc::clone(&pairs[0].certified));
    let (mut notes, now) = (Vec::new(), OffsetDateTime::now_utc());
    for (at, Pair { place, certified, described }) in pairs.iter().enumerate() {
        let mut note = |message: String| notes.push(ConfigError::new(format!("{place}certificate"), message));
        if described.has_expired(now) {
            note(format!("expired at {}", described.not_after));
        } else if described.not_before > now {
            note(format!("is not valid before {}", described.not_before));
        }
        if described.names.is_empty() {
            let served = if at == 0 { "clients will not trust it" } else { "no client will ever get it" };
            note(format!("holds no name: {served}"));
        }
        for name in &described.names {
            if resolver.add(name, certified) {
                note(format!("`{name}` is served with the certificate before it"));
            }
        }
    }
    (resolver, notes)
}
