//! Making tokens.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use time::OffsetDateTime;

use crate::{
    Clock, LIFETIME, Principal, RootSecret,
    jws::{Claims, Header, PublicKey},
};

/// Signs principals as one issuer (`gateway`, `/services/order`), with a key that derives from the root secret and the
/// issuer's name. Clones share the key.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    issuer: String,
    key: Ed25519KeyPair,
    public: PublicKey,
    /// The same for every token, so it is encoded once.
    header: String,
    clock: Clock,
}

impl Signer {
    pub fn new(issuer: &str, root: &RootSecret) -> Self {
        Self::with_clock(issuer, root, OffsetDateTime::now_utc)
    }

    /// As [`Signer::new`], by another clock.
    #[expect(clippy::expect_used, reason = "every 32 bytes are an Ed25519 seed, and its public key has 32")]
    pub fn with_clock(issuer: &str, root: &RootSecret, clock: Clock) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&root.derive(&format!("sign {issuer}"))).expect("a seed");
        let public = PublicKey(key.public_key().as_ref().try_into().expect("an Ed25519 public key"));
        let header = Header::encode(public.id());
        Self(Arc::new(Inner { issuer: issuer.to_owned(), key, public, header, clock }))
    }

    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The public key as a JWK Set (RFC 7517), for `/.well-known/jwks.json` on the ops listener.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [self.0.public.jwk()] })
    }

    /// A token that says who calls, good for [`LIFETIME`].
    pub fn sign(&self, principal: &Principal) -> String {
        let now = (self.0.clock)().unix_timestamp();
        let claims = Claims {
            iss: self.0.issuer.clone(),
            sub: principal.subject.clone(),
            iat: now,
            exp: now + LIFETIME.whole_seconds(),
            scopes: principal.scopes.clone(),
            claims: principal.claims.clone(),
        };
        claims.sign(&self.0.header, &self.0.key)
    }

    /// A token that says the issuer itself calls.
    pub fn sign_own(&self) -> String {
        self.sign(&Principal { subject: self.0.issuer.clone(), ..Principal::default() })
    }
}
