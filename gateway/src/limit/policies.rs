//! The limits that hold for one request together.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Decision, Limiter, seconds};
use crate::context::RequestContext;

/// `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Limits in the order they are asked. Windows come first: they can give back what a later limit refuses.
#[derive(Clone, Default)]
pub struct Policies(Arc<[Arc<Limiter>]>);

/// What the limits say of a request together.
pub struct Verdict {
    /// The limit that refuses it.
    pub refused: Option<Arc<Limiter>>,
    pub retry_after: Duration,
    /// Limits in shadow mode that would have refused it.
    pub shadowed: Vec<Arc<Limiter>>,
    policy: String,
    state: String,
}

impl Policies {
    pub fn new(limiters: impl IntoIterator<Item = Arc<Limiter>>) -> Self {
        let mut limiters: Vec<_> = limiters.into_iter().collect();
        limiters.sort_by_key(|limiter| !limiter.can_give_back());
        Self(limiters.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limiter>> {
        self.0.iter()
    }

    /// Asks every limit that applies to the request, until one refuses. A refused request counts nowhere, except in a rate
    /// asked before another rate refused.
    pub fn check(&self, headers: &HeaderMap, context: &RequestContext, now: Instant) -> Verdict {
        let mut verdict = Verdict {
            refused: None,
            retry_after: Duration::ZERO,
            shadowed: Vec::new(),
            policy: String::new(),
            state: String::new(),
        };
        // A bit for each limit that counted the request.
        let mut counted = 0_u64;
        for (at, limiter) in self.0.iter().enumerate() {
            let Some(key) = limiter.key.of(headers, context) else { continue };
            let decision = limiter.check(key, now);
            verdict.describe(limiter, &decision);
            match (decision.allowed, limiter.shadow) {
                (true, _) => counted |= 1_u64.checked_shl(at as u32).unwrap_or(0),
                (false, true) => verdict.shadowed.push(Arc::clone(limiter)),
                (false, false) => {
                    verdict.refused = Some(Arc::clone(limiter));
                    verdict.retry_after = decision.wait;
                    self.give_back(counted, headers, context, now);
                    break;
                }
            }
        }
        verdict
    }

    fn give_back(&self, counted: u64, headers: &HeaderMap, context: &RequestContext, now: Instant) {
        for (at, limiter) in self.0.iter().enumerate().take(64) {
            if counted >> at & 1 == 1
                && let Some(key) = limiter.key.of(headers, context)
            {
                limiter.give_back(key, now);
            }
        }
    }
}

impl Verdict {
    fn describe(&mut self, limiter: &Limiter, decision: &Decision) {
        if limiter.shadow {
            return;
        }
        let separator = if self.policy.is_empty() { "" } else { ", " };
        _ = write!(self.policy, "{separator}{}", limiter.policy);
        let Decision { remaining, wait, .. } = decision;
        _ = write!(self.state, "{separator}\"{}\";r={remaining};t={}", limiter.name, seconds(*wait));
    }

    /// The fields that tell the client, if any limit applied.
    pub fn fields(self) -> Option<[(HeaderName, HeaderValue); 2]> {
        if self.policy.is_empty() {
            return None;
        }
        let policy = HeaderValue::try_from(self.policy).ok()?;
        let state = HeaderValue::try_from(self.state).ok()?;
        Some([(RATELIMIT_POLICY, policy), (RATELIMIT, state)])
    }

    /// `Retry-After` of a refusal: at least a second, rounded up.
    pub fn retry_after(&self) -> (HeaderName, HeaderValue) {
        (header::RETRY_AFTER, HeaderValue::from(seconds(self.retry_after).max(1)))
    }
}
