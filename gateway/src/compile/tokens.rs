//! The sections `authentication.jwt` and `authentication.revocation`.

use std::{fs, sync::Arc};

use events::Name;

use super::Compiler;
use crate::{
    auth::jwt::{Fetcher, Issuer, KeySet, Source, Tokens, authorities, check_url},
    config::Jwt,
};

impl Compiler<'_> {
    /// Issuers that are as they were go on with their keys.
    pub(super) fn tokens(&mut self) -> Tokens {
        self.revocation();
        let section = &self.config.authentication;
        if !(1..=1_000_000).contains(&section.tokens) {
            self.fault("authentication.tokens", "must be 1 to 1000000");
        }
        let mut issuers: Vec<Arc<Issuer>> = Vec::new();
        for (at, rules) in section.jwt.0.iter().enumerate() {
            let path = format!("authentication.jwt[{at}]");
            let faults = rules.faults();
            if section.jwt.0[..at].iter().any(|other| other.issuer == rules.issuer) {
                self.fault(format!("{path}.issuer"), "is there already");
            }
            if let Some(revocation) = &section.revocation
                && rules.max_lifetime > revocation.keep
            {
                self.fault(
                    format!("{path}.max_lifetime"),
                    "must not be longer than `authentication.revocation.keep`: a token would outlive its revocation",
                );
            }
            if faults.is_empty() {
                issuers.extend(self.issuer(&path, rules));
            }
            faults.into_iter().for_each(|(member, message)| self.fault(format!("{path}.{member}"), message));
        }
        let previous = self.sources.previous.map(|previous| &*previous.tokens);
        Tokens::new(issuers, section.tokens.max(1), previous)
    }

    fn issuer(&mut self, path: &str, rules: &Jwt) -> Option<Arc<Issuer>> {
        let (member, read) = match (&rules.jwks_file, &rules.ca) {
            (Some(file), _) => ("jwks_file", Some(file)),
            (None, Some(file)) => ("ca", Some(file)),
            (None, None) => ("", None),
        };
        let read = match read.map(|file| fs::read(self.path(file)).map_err(|error| (file, error))).transpose() {
            Ok(read) => read,
            Err((file, error)) => {
                self.fault(format!("{path}.{member}"), format!("{}: {error}", self.path(file).display()));
                return None;
            }
        };
        let mut known = self.sources.previous.into_iter().flat_map(|previous| previous.tokens.issuers());
        let known = known.find(|known| known.rules.issuer == rules.issuer);
        if let Some(known) = known.filter(|known| known.rules == *rules && known.document == read) {
            return Some(Arc::clone(known));
        }
        match source(rules, read.as_deref()) {
            Ok(source) => {
                let keys_stay = |known: &&Arc<Issuer>| {
                    rules.jwks_url.is_some()
                        && known.rules.jwks_url == rules.jwks_url
                        && known.rules.algorithms == rules.algorithms
                };
                known.filter(keys_stay).into_iter().for_each(|known| source.inherit(&known.source));
                Some(Arc::new(Issuer::new(rules.clone(), read, source)))
            }
            Err((member, message)) => {
                self.fault(format!("{path}.{member}"), message);
                None
            }
        }
    }

    fn revocation(&mut self) {
        let Some(section) = &self.config.authentication.revocation else { return };
        if let Err(error) = Name::new(&section.queue) {
            self.fault("authentication.revocation.queue", error.to_string());
        }
        self.redis("authentication.revocation.redis", &section.redis);
        if let Some(session) = &self.config.authentication.session
            && session.absolute > section.keep
        {
            self.fault(
                "authentication.session.absolute",
                "must not be longer than `authentication.revocation.keep`: a session would outlive its revocation",
            );
        }
        let hour = std::time::Duration::from_secs(3600);
        if section.keep < hour || section.keep > 8760 * hour {
            self.fault("authentication.revocation.keep", "must be within 1h to 8760h");
        }
    }
}

/// `read`: the file that it names, of keys or of certificates.
fn source(rules: &Jwt, read: Option<&[u8]>) -> Result<Source, (&'static str, String)> {
    let Some(url) = &rules.jwks_url else {
        let document = read.unwrap_or_default();
        let keys = KeySet::parse(document, &rules.algorithms).map_err(|message| ("jwks_file", message))?;
        return Ok(Source::fixed(rules, keys, document));
    };
    let url = check_url(url, rules.plain_http).map_err(|message| ("jwks_url", message))?;
    let roots = read.map(authorities).transpose().map_err(|error| ("ca", format!("{error:#}")))?;
    Fetcher::new(url, roots)
        .map(|fetcher| Source::fetched(rules, fetcher))
        .map_err(|error| ("ca", format!("{error:#}")))
}
