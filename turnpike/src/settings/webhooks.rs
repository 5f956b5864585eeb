//! What webhooks may do.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use super::{Fault, role::Check};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// They may be in private networks, and without TLS.
    pub allow_private_networks: bool,
    /// A file of certificates, in PEM: their authorities are believed besides Mozilla's.
    pub ca: Option<PathBuf>,
    /// Where receivers reach the gateway: `https://example.com`.
    pub public_url: Option<String>,
}

impl Check for Webhooks {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        let is_url = |url: &String| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', '@', ' ']))
        };
        if self.public_url.as_ref().is_some_and(|url| !is_url(url)) {
            let message = "must be the gateway's address, like https://example.com".to_owned();
            faults.push(Fault { path: format!("{path}.public_url"), message });
        }
        let unreadable = self.ca.as_ref().and_then(|file| Some((file, fs::read(file).err()?)));
        if let Some((file, error)) = unreadable {
            let message = format!("{} can't be read: {error}", file.display());
            faults.push(Fault { path: format!("{path}.ca"), message });
        }
    }
}
