//! Who calls, and what it may do: decided by the scopes of the principal that the gateway signed, and by nothing else.
//!
//! `events:read:DB/*` reads, `events:read:own:DB/*` reads what is the principal's own (attribute `owner`),
//! `events:write:ORDERS/CREATE` publishes, `events:consume:billing` works for the group of that name (`billing*`: for all
//! whose name begins so), `jobs:write` creates jobs and changes its own, `jobs:read` sees all of them and so may change them with
//! `jobs:write`, `webhooks:read` sees its own webhooks and `webhooks:write` changes them, `bus:read` looks at queues and groups,
//! `bus:admin` operates, works for any group, and does with jobs and webhooks what it likes. The patterns of reading and writing
//! are filters; a filter may be read only if for each event it names one scope covers it.
//!
//! `rooms:join:chat/*` lets into the rooms of a namespace and shows what happens there, `rooms:write:chat/*` publishes there
//! (`chat/team-*`, `*/*`: a star at the end of either part is for whatever follows); `presence:read` sees who is online. In the
//! queues that tell the same, `ROOMS` and `PRESENCE`, no `events:read` counts: who may read everything else is no spy for that.

mod permission;
mod rooms;
mod scopes;
mod sight;
#[cfg(test)]
mod tests;

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use principal::{METADATA, Principal, TokenError};

pub(crate) use sight::Sight;

use self::scopes::Scopes;
use crate::{
    problem::{Kind, Problem},
    shared::Shared,
};

/// Who calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The principal's resource name; None: anonymous.
    pub subject: Option<String>,
    /// The client's address, as the gateway saw it.
    pub address: Option<String>,
    scopes: Scopes,
}

impl Caller {
    /// Who sent a request with these headers.
    pub(crate) async fn of(headers: &HeaderMap, shared: &Shared) -> Result<Self, Problem> {
        let address = headers.get("x-forwarded-for").and_then(|value| client_address(value.to_str().ok()?));
        let mut tokens = headers.get_all(METADATA).iter();
        let Some(token) = tokens.next() else { return Ok(Self { address, ..Self::default() }) };
        if tokens.next().is_some() {
            return Err(Problem::new(Kind::Unauthenticated, "more than one principal"));
        }
        Ok(Self::verified(token.to_str().unwrap_or_default(), shared).await?.at(address))
    }

    /// The same at this address.
    pub(crate) fn at(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    /// Who a token speaks of.
    pub(crate) async fn verified(token: &str, shared: &Shared) -> Result<Self, Problem> {
        match shared.verifier.verify(token).await {
            Ok(principal) => Ok(Self::from(principal)),
            Err(TokenError::Invalid(reason)) => {
                tracing::warn!(reason, "a principal token was refused");
                Err(Problem::new(Kind::Unauthenticated, "the principal token is not valid"))
            }
            Err(TokenError::Unavailable(reason)) => {
                tracing::warn!(reason, "a principal token could not be verified");
                let wait = std::time::Duration::from_secs(1);
                Err(Problem::unavailable("the principal can't be verified now", wait))
            }
        }
    }

    /// An anonymous caller might be allowed to if it said who it is.
    fn refused(&self, detail: String) -> Problem {
        match self.subject {
            Some(_) => Problem::forbidden(detail),
            None => Problem::new(Kind::Unauthenticated, detail),
        }
    }
}

impl From<Principal> for Caller {
    fn from(principal: Principal) -> Self {
        Self { subject: Some(principal.subject), address: None, scopes: Scopes::of(&principal.scopes) }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        Self::of(&parts.headers, shared).await
    }
}

/// The last address: the gateway appends what it saw itself.
fn client_address(forwarded: &str) -> Option<String> {
    let address = forwarded.rsplit(',').next()?.trim();
    (!address.is_empty() && address.len() <= 64).then(|| address.to_owned())
}
