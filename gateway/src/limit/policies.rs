//! The limits that hold for one request together.

use std::{
    fmt::Write as _,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Decision, Limiter, Together, seconds};
use crate::{context::RequestContext, shared::Redis};

/// `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A limit as one route asks it.
#[derive(Clone)]
pub struct Limit {
    pub limiter: Arc<Limiter>,
    /// How many requests each of the route's counts as.
    pub cost: NonZeroU32,
}

/// Limits in the order they are asked. Windows come first: they can give back what a later limit refuses.
#[derive(Clone, Default)]
pub struct Policies {
    limits: Arc<[Limit]>,
    /// Where those are counted that gateways have in common.
    redis: Option<Arc<Redis>>,
}

/// What the limits say of a request together.
#[derive(Default)]
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
    pub fn new(limits: impl IntoIterator<Item = Limit>, redis: Option<&Arc<Redis>>) -> Self {
        let mut limits: Vec<_> = limits.into_iter().collect();
        limits.sort_by_key(|limit| !limit.limiter.can_give_back());
        let redis = redis.filter(|_| limits.iter().any(|limit| limit.limiter.config.shared)).cloned();
        Self { limits: limits.into(), redis }
    }

    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limiter>> {
        self.limits.iter().map(|limit| &limit.limiter)
    }

    /// What a request costs of each.
    #[cfg(test)]
    pub fn costs(&self) -> impl Iterator<Item = u32> {
        self.limits.iter().map(|limit| limit.cost.get())
    }

    /// What must be asked of Redis; None where all is known here, by [`Policies::check`].
    pub fn together(&self, headers: &HeaderMap, context: &RequestContext, now: Instant) -> Option<Together> {
        let redis = self.redis.as_ref()?;
        Some(Together::new(redis, &self.limits, headers, context, now))
    }

    /// Asks every limit that applies to the request, until one refuses. A refused request counts nowhere, except in a rate
    /// asked before another rate refused.
    pub fn check(&self, headers: &HeaderMap, context: &RequestContext, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        // A bit for each limit that counted the request.
        let mut counted = 0_u64;
        for (at, Limit { limiter, cost }) in self.limits.iter().enumerate() {
            let Some(values) = limiter.key.of(headers, context) else { continue };
            let decision = limiter.check(*cost, values.hash(), now);
            limiter.pressure.note(&limiter.name, limiter.quota(), cost.get(), &decision, &values);
            verdict.add(limiter, &decision);
            if decision.allowed {
                counted |= 1_u64.checked_shl(at as u32).unwrap_or(0);
            } else if verdict.refused.is_some() {
                self.give_back(counted, headers, context, now);
                break;
            }
        }
        verdict
    }

    fn give_back(&self, counted: u64, headers: &HeaderMap, context: &RequestContext, now: Instant) {
        for (at, Limit { limiter, cost }) in self.limits.iter().enumerate().take(64) {
            if counted >> at & 1 == 1
                && let Some(values) = limiter.key.of(headers, context)
            {
                limiter.give_back(*cost, values.hash(), now);
            }
        }
    }
}

impl Verdict {
    /// Takes in what one limit says.
    pub(super) fn add(&mut self, limiter: &Arc<Limiter>, decision: &Decision) {
        self.describe(limiter, decision);
        match (decision.allowed, limiter.shadow) {
            (true, _) => {}
            (false, true) => self.shadowed.push(Arc::clone(limiter)),
            (false, false) => {
                self.refused = Some(Arc::clone(limiter));
                self.retry_after = decision.wait;
            }
        }
    }

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
