//! Who is calling: API keys (`keys`, `ring`), tokens of others (`jwt`), sessions (`session`), client
//! certificates (`certificate`), and the guard against other
//! sites using a browser's session (`cross_site`). Whatever the scheme, the outcome is one [`Credential`]; what was
//! revoked (`revocation`) is good no longer, whatever it is. What the caller may do is a matter of `rule`.

pub mod certificate;
pub mod challenge;
mod credential;
pub mod cross_site;
pub mod jwt;
pub mod keys;
mod presented;
pub mod revocation;
pub mod ring;
pub mod rule;
pub mod session;

use std::sync::Arc;

use arc_swap::ArcSwap;
pub use credential::{Credential, Kind, Kinds, Origin};
pub use presented::{Presented, X_API_KEY, presented};
use principal::Signer;

use revocation::Revocations;
use ring::KeyRing;
use session::Sessions;

/// What credentials are checked against. Shared by all cores, and replaced piece by piece: keys when their file changes,
/// sessions never.
pub struct Authority {
    pub signer: Signer,
    pub keys: ArcSwap<KeyRing>,
    pub sessions: Arc<Sessions>,
    pub revocations: Arc<Revocations>,
}
