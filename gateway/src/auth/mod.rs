//! Who is calling: API keys (`keys`), sessions (`session`), and the guard against other sites using a browser's session
//! (`cross_site`). Whatever the scheme, the outcome is one [`Authenticated`].

pub mod cross_site;
pub mod keys;
pub mod ring;
pub mod session;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use principal::{Principal, Signer};

use crate::context::Authenticated;
use ring::KeyRing;
use session::Sessions;

/// Tokens live for 60 s; one that is used again must still be good for the whole of a request's way.
const REUSE: Duration = Duration::from_secs(30);

/// What credentials are checked against. Shared by all cores, and replaced piece by piece: keys when their file changes,
/// sessions never.
pub struct Authority {
    pub signer: Signer,
    pub keys: ArcSwap<KeyRing>,
    pub sessions: Arc<Sessions>,
}

/// A principal that credentials lead to, with its latest token. Signing costs more than a whole request, so a token serves
/// every request of the next 30 s.
#[derive(Default)]
pub struct Credential {
    pub principal: Principal,
    signed: ArcSwapOption<Signed>,
}

struct Signed {
    at: Instant,
    authenticated: Arc<Authenticated>,
}

impl Credential {
    pub fn new(principal: Principal) -> Self {
        Self { principal, signed: ArcSwapOption::empty() }
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
