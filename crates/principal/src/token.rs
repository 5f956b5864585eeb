use crate::{Principal, RootSecret};
use std::sync::Arc;

/// The metadata key and header that carries the token upstream; the gateway strips inbound copies.
pub const METADATA: &str = "turnpike-principal";

/// Signs principals as one issuer (`gateway`, `/services/order`): EdDSA JWS of 60 s, key id derived from the key.
#[derive(Clone)]
pub struct Signer(Arc<()>);

impl Signer {
    pub fn new(_issuer: &str, _root: &RootSecret) -> Self {
        todo!()
    }
    pub fn issuer(&self) -> &str {
        todo!()
    }
    /// The public key as a JWK Set (RFC 7517), for `/.well-known/jwks.json` on the ops listener.
    pub fn jwks(&self) -> serde_json::Value {
        todo!()
    }
    pub fn sign(&self, _principal: &Principal) -> String {
        todo!()
    }
}

/// Whose tokens are believed. The issuer `gateway` may speak for anyone but `/services/…`; an issuer `/services/x` only
/// for itself.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub name: String,
    pub keys: Keys,
}

/// Where an issuer's public keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    Inline(serde_json::Value),
    /// Fetched over HTTP, kept, refreshed every ten minutes and (at most every 30 s) on an unknown key id.
    Url(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token is not one to believe.
    #[error("{0}")]
    Invalid(String),
    /// The keys can't be had now.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Clone)]
pub struct Verifier(Arc<()>);

impl Verifier {
    pub fn new(_issuers: Vec<Issuer>) -> Self {
        todo!()
    }
    pub async fn verify(&self, _token: &str) -> Result<Principal, TokenError> {
        todo!()
    }
}
