//! Who calls: the [`Principal`], the token it travels in between gateway and services, and the keys all of it derives
//! from.

mod secret;
mod token;

pub use secret::RootSecret;
pub use token::{Issuer, Keys, METADATA, Signer, TokenError, Verifier};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The authenticated caller, whatever it authenticated with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Its resource name: `customers/0192…`, `operators/1`, `/services/order`.
    pub subject: String,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl Principal {
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }
}
