//! One address of a service and what is known of its fitness. Shared by all cores: read on every request by two relaxed
//! loads, written only when something changes.
//!
//! Two sources say whether it is fit: active checks (`healthy`), and requests that found no way to it (`suspect`, for one
//! second at a time, so that a stopped instance costs nobody an answer until the checks have noticed).

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, uri::Authority};
use parking_lot::Mutex;

use crate::{
    ConfigError,
    discovery::{Found, Origin},
    metrics,
};

const SUSPICION: Duration = Duration::from_secs(1);

/// Zero of the clock of `suspect_until`.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// An endpoint's state, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Endpoint {
    pub address: String,
    /// What the active checks say; true where there are none.
    pub healthy: bool,
    pub reason: String,
    /// How long it has been in this state, in seconds.
    pub for_seconds: u64,
    /// Requests now under way to it.
    pub in_flight: usize,
    /// The source it was found by; none if its address stands in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its source's: it stands back while one of the same source with a lower one is healthy.
    pub priority: u16,
    /// Its part of the traffic beside the others'.
    pub weight: u16,
    /// What the instance says of itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// It is gone from its source, and finishes what it has.
    pub draining: bool,
}

pub(crate) struct Shared {
    pub address: String,
    pub authority: Authority,
    /// The authority as a `Host` header.
    pub host: HeaderValue,
    upstream: String,
    /// The host its certificate is expected to hold, where that isn't its own.
    known_as: Option<String>,
    /// What its source says of it now.
    origin: Mutex<Origin>,
    /// The origin's, for those who choose.
    weight: AtomicU16,
    /// It is gone from its source.
    is_gone: AtomicBool,
    healthy: AtomicBool,
    /// Milliseconds of [`EPOCH`]; 0: not suspect.
    suspect_until: AtomicU64,
    state: Mutex<State>,
    gauge: metrics::Healthy,
}

struct State {
    reason: String,
    since: Instant,
    /// Why it is suspect.
    suspicion: String,
}

impl Shared {
    pub fn new(upstream: &str, address: &str) -> Result<Self, ConfigError> {
        let refused = |message: String| ConfigError { path: "endpoints".to_owned(), message };
        Ok(Self {
            address: address.to_owned(),
            authority: address.parse().map_err(|_| refused(format!("`{address}` is not host:port")))?,
            host: address.parse().map_err(|_| refused(format!("`{address}` is not host:port")))?,
            upstream: upstream.to_owned(),
            known_as: None,
            origin: Mutex::new(Origin { weight: 1, ..Origin::default() }),
            weight: AtomicU16::new(1),
            is_gone: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            suspect_until: AtomicU64::new(0),
            state: Mutex::new(State {
                reason: "not checked yet".to_owned(),
                since: Instant::now(),
                suspicion: String::new(),
            }),
            gauge: metrics::Healthy::new(upstream, address),
        })
    }

    /// One that a source has found.
    pub fn found(upstream: &str, found: &Found) -> Result<Self, ConfigError> {
        let endpoint = Self { known_as: found.host.clone(), ..Self::new(upstream, &found.address)? };
        endpoint.describe(&found.origin);
        Ok(endpoint)
    }

    /// Takes over what its source says of it.
    pub fn describe(&self, origin: &Origin) {
        self.weight.store(origin.weight, Relaxed);
        let mut known = self.origin.lock();
        if *known != *origin {
            known.clone_from(origin);
        }
    }

    /// Its part of the traffic beside the others', at least 1.
    #[expect(dead_code, reason = "for the balancers")]
    pub fn weight(&self) -> u16 {
        self.weight.load(Relaxed)
    }

    pub fn origin(&self) -> Origin {
        self.origin.lock().clone()
    }

    /// The host that its certificate is expected to hold: that of the name it was found by, else its own.
    pub fn known_as(&self) -> &str {
        self.known_as.as_deref().unwrap_or(self.authority.host())
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    pub fn is_suspect(&self, now: Instant) -> bool {
        let until = self.suspect_until.load(Relaxed);
        until != 0 && millis(now) < until
    }

    /// An active check moved it to a state, or gave a new reason for the one it is in.
    pub fn set_health(&self, healthy: bool, reason: &str) {
        let mut state = self.state.lock();
        if self.healthy.swap(healthy, Relaxed) != healthy {
            state.since = Instant::now();
            self.gauge.set(healthy);
            tracing::info!(
                upstream = self.upstream,
                endpoint = self.address,
                healthy,
                reason,
                "endpoint health changed"
            );
        }
        if state.reason != reason {
            reason.clone_into(&mut state.reason);
        }
    }

    /// It is gone from its source.
    pub fn retire(&self) {
        self.is_gone.store(true, Relaxed);
        self.gauge.retire();
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    /// A request found no way to it.
    pub fn suspect(&self, why: &str) {
        let until = millis(Instant::now() + SUSPICION);
        let before = self.suspect_until.swap(until, Relaxed);
        let mut state = self.state.lock();
        if before == 0 {
            tracing::info!(upstream = self.upstream, endpoint = self.address, reason = why, "endpoint is avoided");
        }
        if state.suspicion != why {
            why.clone_into(&mut state.suspicion);
        }
    }

    /// A connection to it was made.
    pub fn clear_suspicion(&self) {
        // The load spares all cores a write to a line they share.
        if self.suspect_until.load(Relaxed) != 0 && self.suspect_until.swap(0, Relaxed) != 0 {
            tracing::info!(upstream = self.upstream, endpoint = self.address, "endpoint is reached again");
        }
    }

    pub fn view(&self, in_flight: usize) -> Endpoint {
        let state = self.state.lock();
        let suspect = self.is_suspect(Instant::now());
        let origin = self.origin();
        Endpoint {
            address: self.address.clone(),
            healthy: self.is_healthy(),
            reason: if suspect { state.suspicion.clone() } else { state.reason.clone() },
            for_seconds: state.since.elapsed().as_secs(),
            in_flight,
            source: origin.source.as_deref().map(str::to_owned),
            priority: origin.priority,
            weight: origin.weight,
            metadata: origin.metadata,
            draining: self.is_gone(),
        }
    }
}

fn millis(at: Instant) -> u64 {
    // Never 0, which says "not suspect".
    u64::try_from(at.saturating_duration_since(*EPOCH).as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_ends_by_itself() {
        let endpoint = Shared::new("product", "127.0.0.1:7001").unwrap();
        let now = Instant::now();
        assert!(!endpoint.is_suspect(now));
        endpoint.suspect("connection refused");
        assert!(endpoint.is_suspect(now + Duration::from_millis(500)));
        assert_eq!(endpoint.view(0).reason, "connection refused");
        assert!(!endpoint.is_suspect(now + Duration::from_millis(1500)));
    }

    #[test]
    fn a_connection_clears_suspicion() {
        let endpoint = Shared::new("product", "127.0.0.1:7001").unwrap();
        endpoint.suspect("connection refused");
        endpoint.clear_suspicion();
        assert!(!endpoint.is_suspect(Instant::now()));
    }

    #[test]
    fn the_state_carries_its_reason() {
        let endpoint = Shared::new("product", "127.0.0.1:7001").unwrap();
        endpoint.set_health(false, "not serving");
        let view = endpoint.view(3);
        assert!(!view.healthy && view.reason == "not serving" && view.in_flight == 3);
        endpoint.set_health(true, "serving");
        assert!(endpoint.is_healthy());
    }
}
