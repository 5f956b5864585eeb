//! Believing tokens, or not.

use std::{collections::HashMap, fmt, sync::Arc};

use time::{Duration, OffsetDateTime};

use crate::{
    Clock, Keys, LIFETIME, Principal,
    cache::Cache,
    jws::{Claims, Parts},
    keys::Source,
};

/// How far the clocks of two machines may be apart.
const LEEWAY: Duration = Duration::seconds(5);

/// The subjects, and issuers, that are services acting on their own.
const SERVICES: &str = "/services/";

/// Whose tokens are believed. An issuer `/services/x` may speak for itself only; another (`gateway`) for anyone but
/// `/services/…`.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub name: String,
    pub keys: Keys,
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

/// Checks who signed a token, for whom, and until when. Clones share the keys and what was verified before.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    issuers: HashMap<String, Source>,
    cache: Cache,
    clock: Clock,
}

impl Verifier {
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self::with_clock(issuers, OffsetDateTime::now_utc)
    }

    /// As [`Verifier::new`], by another clock.
    pub fn with_clock(issuers: Vec<Issuer>, clock: Clock) -> Self {
        let issuers = issuers.into_iter().map(|issuer| (issuer.name, Source::new(issuer.keys))).collect();
        Self(Arc::new(Inner { issuers, cache: Cache::default(), clock }))
    }

    /// The principal that the token speaks of.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for a token that is malformed, expired, signed by someone else or for a subject its
    /// issuer may not speak for; [`TokenError::Unavailable`] where that can't be told for want of the issuer's keys.
    pub async fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        let now = (self.0.clock)();
        if let Some(principal) = self.0.cache.get(token, now) {
            return Ok(principal);
        }
        let parts = Parts::parse(token).ok_or_else(|| invalid("not an EdDSA token"))?;
        check_time(&parts.claims, now)?;
        let Some(source) = self.0.issuers.get(&parts.claims.iss) else {
            return Err(invalid("of an unknown issuer"));
        };
        if !may_speak_for(&parts.claims.iss, &parts.claims.sub) {
            return Err(invalid("its issuer may not speak for its subject"));
        }
        let key = source.key(&parts.header.kid).await?;
        if !parts.verified_by(&key) {
            return Err(invalid("its signature is wrong"));
        }
        let Claims { sub, scopes, claims, exp, .. } = parts.claims;
        let principal = Principal { subject: sub, scopes, claims };
        self.0.cache.insert(token, principal.clone(), exp, now);
        Ok(principal)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifier").field(&self.0.issuers.keys()).finish()
    }
}

fn may_speak_for(issuer: &str, subject: &str) -> bool {
    if issuer.starts_with(SERVICES) { subject == issuer } else { !subject.is_empty() && !subject.starts_with(SERVICES) }
}

fn check_time(claims: &Claims, now: OffsetDateTime) -> Result<(), TokenError> {
    let (now, leeway) = (now.unix_timestamp(), LEEWAY.whole_seconds());
    if claims.exp <= now - leeway {
        return Err(invalid("expired"));
    }
    // Also a lifetime no signer of ours gives: a stolen key shall not make tokens for years.
    if claims.iat > now + leeway || claims.exp > now + LIFETIME.whole_seconds() + leeway {
        return Err(invalid("from the future"));
    }
    Ok(())
}

fn invalid(reason: &str) -> TokenError {
    TokenError::Invalid(reason.to_owned())
}
