//! What webhooks may do.

use serde::Deserialize;

use super::{Fault, role::Check};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// They may be in private networks, and without TLS.
    pub allow_private_networks: bool,
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
    }
}
