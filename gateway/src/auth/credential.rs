//! What a caller showed, once it was found to be good: whom it speaks for, and what it can be revoked by.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use principal::{Principal, Signer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::session;
use crate::context::Authenticated;

/// Tokens live for 60 s; one that is used again must still be good for the whole of a request's way.
const REUSE: Duration = Duration::from_secs(30);

/// The kinds of credentials there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    ApiKey,
    Jwt,
    Session,
    Certificate,
}

/// Which kinds a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const ALL: Self = Self(u8::MAX);
    pub const NONE: Self = Self(0);

    pub fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

impl<'a> FromIterator<&'a Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = &'a Kind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |all, kind| all | (1 << *kind as u8)))
    }
}

/// Which one it is: what a revocation names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Key(Arc<str>),
    Session(session::Id),
    Token { issuer: Arc<str>, id: Option<Arc<str>> },
    Certificate,
}

impl Origin {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Key(_) => Kind::ApiKey,
            Self::Session(_) => Kind::Session,
            Self::Token { .. } => Kind::Jwt,
            Self::Certificate => Kind::Certificate,
        }
    }
}

/// A principal that credentials lead to, with its latest token. Signing costs more than a whole request, so a token serves
/// every request of the next 30 s.
pub struct Credential {
    pub principal: Principal,
    pub origin: Origin,
    /// When it was given out, as far as is known.
    pub since: Option<OffsetDateTime>,
    signed: ArcSwapOption<Signed>,
    /// The state of the revocations that it was last looked up in.
    pub(super) cleared: AtomicU64,
}

struct Signed {
    at: Instant,
    authenticated: Arc<Authenticated>,
}

impl Credential {
    pub fn new(principal: Principal, origin: Origin, since: Option<OffsetDateTime>) -> Self {
        Self { principal, origin, since, signed: ArcSwapOption::empty(), cleared: AtomicU64::new(0) }
    }

    /// The principal with a token that is fresh enough. None if the token can't be put into a header, which a signer of
    /// ours never makes.
    pub fn authenticated(&self, signer: &Signer, now: Instant) -> Option<Arc<Authenticated>> {
        if let Some(signed) = &*self.signed.load()
            && now.saturating_duration_since(signed.at) < REUSE
        {
            return Some(Arc::clone(&signed.authenticated));
        }
        let mut token = HeaderValue::try_from(signer.sign(&self.principal)).ok()?;
        token.set_sensitive(true);
        let authenticated = Arc::new(Authenticated { principal: self.principal.clone(), token });
        self.signed.store(Some(Arc::new(Signed { at: now, authenticated: Arc::clone(&authenticated) })));
        Some(authenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_takes_the_kinds_it_names() {
        let kinds: Kinds = [Kind::Jwt, Kind::Certificate].iter().collect();
        let taken = [Kind::ApiKey, Kind::Jwt, Kind::Session, Kind::Certificate].map(|kind| kinds.contains(kind));
        assert_eq!(taken, [false, true, false, true]);
        assert!(Kinds::ALL.contains(Kind::Session));
    }
}
