//! Who calls: the [`Principal`], the token it travels in between gateway and services, and the secret all keys derive
//! from.
//!
//! A token is a JWS (RFC 7515, compact form, `EdDSA` of RFC 8037 and nothing else) that lives for 60 s. The [`Signer`]
//! makes it; the [`Verifier`] believes it only from an issuer it was told of, and only for the subjects that issuer may
//! speak for. Whether the principal may do what it asks is for others to decide.

mod cache;
mod jws;
mod keys;
mod secret;
mod signer;
mod verifier;

pub use keys::Keys;
pub use secret::RootSecret;
pub use signer::Signer;
pub use verifier::{Issuer, TokenError, Verifier};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime};

/// The metadata key and header that carries the token upstream; the gateway strips inbound copies.
pub const METADATA: &str = "turnpike-principal";

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::seconds(60);

/// Tells the time; a test hands in another.
pub type Clock = fn() -> OffsetDateTime;

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
