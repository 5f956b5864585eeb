//! One address of a service and what is known of its fitness. Shared by all cores: an answer costs it one relaxed load,
//! and everything else happens only when something changes.
//!
//! Two sources say whether it is fit: active checks (`healthy`), and how requests to it fare ([`Standing`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, uri::Authority};
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::sleep};

use crate::{
    Config, ConfigError,
    discovery::{Found, Origin},
    drain::Connections,
    metrics,
    roster::Roster,
    standing::{self, Event, Standing},
    stream::Stream,
};

/// The smallest share of one that warms.
const LEAST_SHARE: f64 = 0.1;

/// An endpoint's state, as an operator reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Endpoint {
    pub address: String,
    /// What the active checks say; true where there are none.
    pub healthy: bool,
    /// `well`; `down`: not healthy; `ejected`: its requests failed; `avoided`: nobody listens there; `warming`: it is new
    /// or back, and its share grows.
    pub state: &'static str,
    pub reason: String,
    /// How long it has been in this state, in seconds.
    pub for_seconds: u64,
    /// How long it is yet to be in this state, in seconds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_seconds: Option<u64>,
    /// Failures since its last answer.
    pub failures: u32,
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
    /// Where it may go; None: it stands in the configuration.
    connections: Option<Arc<Connections>>,
    /// It is gone from its source.
    is_gone: AtomicBool,
    healthy: AtomicBool,
    /// Its next answer changes something.
    is_troubled: AtomicBool,
    state: Mutex<State>,
    roster: Arc<Roster>,
    gauge: metrics::Healthy,
}

struct State {
    /// What the active checks say, and since when it is healthy, or not.
    reason: String,
    since: Instant,
    standing: Standing,
    /// Since when it stands so.
    stands_since: Instant,
    /// Why the last request failed.
    failure: String,
    slow_start: Duration,
}

/// What those who choose have to know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fitness {
    /// It is to get nothing.
    pub is_out: bool,
    /// It is to get what nobody else can take.
    pub is_avoided: bool,
    /// Its part of the traffic beside the others'.
    pub weight: u16,
    /// Since when its share grows, and for how long.
    pub warms: Option<(Instant, Duration)>,
    /// When it is to be looked at again, though nothing changes.
    pub until: Option<Instant>,
}

impl Fitness {
    pub const WELL: Self = Self { is_out: false, is_avoided: false, weight: 1, warms: None, until: None };

    /// Its part of the traffic now.
    pub fn share(&self, now: Instant) -> f64 {
        let warmth = self.warms.map_or(1.0, |(since, time)| {
            now.saturating_duration_since(since).div_duration_f64(time).clamp(LEAST_SHARE, 1.0)
        });
        f64::from(self.weight) * warmth
    }
}

impl Shared {
    pub fn new(upstream: &str, address: &str) -> Result<Self, ConfigError> {
        let refused = |message: String| ConfigError { path: "endpoints".to_owned(), message };
        let now = Instant::now();
        Ok(Self {
            address: address.to_owned(),
            authority: address.parse().map_err(|_| refused(format!("`{address}` is not host:port")))?,
            host: address.parse().map_err(|_| refused(format!("`{address}` is not host:port")))?,
            upstream: upstream.to_owned(),
            known_as: None,
            origin: Mutex::new(Origin { weight: 1, ..Origin::default() }),
            connections: None,
            is_gone: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            is_troubled: AtomicBool::new(false),
            state: Mutex::new(State {
                reason: "not checked yet".to_owned(),
                since: now,
                standing: Standing::new(None, Duration::ZERO),
                stands_since: now,
                failure: String::new(),
                slow_start: Duration::ZERO,
            }),
            roster: Arc::default(),
            gauge: metrics::Healthy::new(upstream, address),
        })
    }

    /// One that a source has found.
    pub fn found(upstream: &str, found: &Found) -> Result<Self, ConfigError> {
        let endpoint = Self {
            known_as: found.host.clone(),
            connections: Some(Arc::default()),
            ..Self::new(upstream, &found.address)?
        };
        endpoint.describe(&found.origin);
        Ok(endpoint)
    }

    /// One of those on the roster, by the rules of their upstream.
    pub fn on(mut self, roster: &Arc<Roster>, config: &Config) -> Self {
        let state = self.state.get_mut();
        state.standing = Standing::new(config.ejection.clone(), config.slow_start);
        state.slow_start = config.slow_start;
        self.roster = Arc::clone(roster);
        self
    }

    /// Takes over what its source says of it.
    pub fn describe(&self, origin: &Origin) {
        let mut known = self.origin.lock();
        if *known != *origin {
            known.clone_from(origin);
            self.roster.changed();
        }
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

    /// What those who choose have to know of it.
    pub fn fitness(&self, now: Instant) -> Fitness {
        let weight = self.origin.lock().weight;
        let mut state = self.state.lock();
        let slow_start = state.slow_start;
        let fitness = Fitness { is_out: !self.is_healthy(), weight, ..Fitness::WELL };
        match self.settled(&mut state, now) {
            standing::State::Well => fitness,
            standing::State::Avoided { until } => Fitness { is_avoided: true, until: Some(until), ..fitness },
            standing::State::Ejected { until } => Fitness { is_out: true, until: Some(until), ..fitness },
            standing::State::Warming { since } => {
                Fitness { warms: Some((since, slow_start)), until: Some(since + slow_start), ..fitness }
            }
        }
    }

    /// A try was answered, and not by saying that it can't.
    pub fn answered(&self, now: Instant) {
        if self.is_troubled.load(Relaxed) {
            self.after(Event::Answered, "", now);
        }
    }

    /// What became of a try; of one that failed, why.
    pub fn after(&self, event: Event, why: &str, now: Instant) {
        let mut state = self.state.lock();
        let before = self.settled(&mut state, now);
        let changed = state.standing.after(event, &self.roster, now);
        let after = state.standing.state(now);
        self.is_troubled.store(state.standing.is_troubled(), Relaxed);
        if event != Event::Answered && state.failure != why && !matches!(before, standing::State::Ejected { .. }) {
            why.clone_into(&mut state.failure);
        }
        if !changed {
            return;
        }
        state.stands_since = now;
        let (upstream, endpoint) = (&self.upstream, &self.address);
        match after {
            standing::State::Ejected { until } => {
                let seconds = until.saturating_duration_since(now).as_secs();
                metrics::ejected(upstream);
                tracing::warn!(upstream, endpoint, seconds, reason = why, "endpoint is ejected: its requests fail");
            }
            standing::State::Avoided { .. } => tracing::info!(upstream, endpoint, reason = why, "endpoint is avoided"),
            _ => tracing::info!(upstream, endpoint, "endpoint is reached again"),
        }
        drop(state);
        self.roster.changed();
    }

    /// An active check moved it to a state, or gave a new reason for the one it is in. Whether it is another one.
    pub fn set_health(&self, healthy: bool, reason: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        let changed = self.healthy.swap(healthy, Relaxed) != healthy;
        if changed {
            state.since = now;
            self.gauge.set(healthy);
            let (upstream, endpoint) = (&self.upstream, &self.address);
            tracing::info!(upstream, endpoint, healthy, reason, "endpoint health changed");
            if healthy {
                self.leave_roster(&mut state, now);
                state.standing.begin_anew(now);
                state.stands_since = now;
                self.is_troubled.store(false, Relaxed);
            }
            self.roster.changed();
        }
        if state.reason != reason {
            reason.clone_into(&mut state.reason);
        }
        changed
    }

    /// It joins others.
    pub fn join(&self, now: Instant) {
        self.state.lock().standing.begin_anew(now);
    }

    /// How it stands, after what has ended by the clock.
    fn settled(&self, state: &mut State, now: Instant) -> standing::State {
        let was_out = matches!(state.standing.last(), standing::State::Ejected { .. });
        let stands = state.standing.state(now);
        if was_out && !matches!(stands, standing::State::Ejected { .. }) {
            state.stands_since = now;
            tracing::info!(upstream = self.upstream, endpoint = self.address, "endpoint is back");
        }
        stands
    }

    /// Another may be taken out in its place.
    fn leave_roster(&self, state: &mut State, now: Instant) {
        if let standing::State::Ejected { until } = state.standing.state(now) {
            self.roster.release(until);
        }
    }

    /// A connection to it, which ends with it.
    pub fn track(&self, stream: Stream) -> Stream {
        match &self.connections {
            Some(connections) => connections.track(stream),
            None => stream,
        }
    }

    /// It is gone from its source: what is under way has so long to finish.
    pub fn retire(&self, patience: Duration) {
        self.is_gone.store(true, Relaxed);
        self.gauge.retire();
        self.leave_roster(&mut self.state.lock(), Instant::now());
        let (Some(connections), Ok(runtime)) = (&self.connections, Handle::try_current()) else { return };
        let connections = Arc::clone(connections);
        let (upstream, endpoint) = (self.upstream.clone(), self.address.clone());
        runtime.spawn(async move {
            sleep(patience).await;
            let cut = connections.cut();
            if cut > 0 {
                tracing::warn!(upstream, endpoint, cut, "what was under way at an endpoint that is gone took too long");
            }
        });
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    pub fn view(&self, in_flight: usize, now: Instant) -> Endpoint {
        let origin = self.origin();
        let healthy = self.is_healthy();
        let mut state = self.state.lock();
        let stands = self.settled(&mut state, now);
        let (name, until) = match stands {
            _ if !healthy => ("down", None),
            standing::State::Well => ("well", None),
            standing::State::Avoided { until } => ("avoided", Some(until)),
            standing::State::Ejected { until } => ("ejected", Some(until)),
            standing::State::Warming { since } => ("warming", Some(since + state.slow_start)),
        };
        let reason = match name {
            "avoided" => state.failure.clone(),
            "ejected" => format!("its requests failed, time {} of late: {}", state.standing.ejections(), state.failure),
            _ => state.reason.clone(),
        };
        let since = if matches!(name, "well" | "down") { state.since } else { state.stands_since };
        Endpoint {
            address: self.address.clone(),
            healthy,
            state: name,
            reason,
            for_seconds: now.saturating_duration_since(since).as_secs(),
            until_seconds: until.map(|until| until.saturating_duration_since(now).as_secs_f64().ceil() as u64),
            failures: state.standing.failures(),
            in_flight,
            source: origin.source.as_deref().map(str::to_owned),
            priority: origin.priority,
            weight: origin.weight,
            metadata: origin.metadata,
            draining: self.is_gone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// So many of one upstream.
    pub fn endpoints(count: usize, slow_start: Duration) -> Vec<Arc<Shared>> {
        let roster = Arc::new(Roster::default());
        roster.resize(count);
        let config = Config { slow_start, ..Config::new("test", Vec::new(), crate::Protocol::Http1) };
        let endpoint = |number| Shared::new("test", &format!("127.0.0.1:{}", 7001 + number)).unwrap();
        (0..count).map(|number| Arc::new(endpoint(number).on(&roster, &config))).collect()
    }

    fn one() -> (Arc<Shared>, Instant) {
        (endpoints(1, Duration::ZERO).remove(0), Instant::now())
    }

    #[test]
    fn each_state_carries_its_reason() {
        let (endpoint, now) = one();
        let view = |now| endpoint.view(3, now);
        assert_eq!((view(now).state, view(now).reason.as_str(), view(now).in_flight), ("well", "not checked yet", 3));
        endpoint.after(Event::Absent, "connection refused", now);
        assert_eq!((view(now).state, view(now).reason.as_str()), ("avoided", "connection refused"));
        assert_eq!(view(now).until_seconds, Some(1));
        for n in 0..5 {
            endpoint.after(Event::Failed, "no answer", now + S / 10 * n);
        }
        let later = now + S;
        assert_eq!(view(later).state, "ejected");
        assert_eq!(view(later).reason, "its requests failed, time 1 of late: no answer");
        assert_eq!(view(now + 31 * S).state, "well");
        assert!(endpoint.set_health(false, "not serving", now));
        assert_eq!((view(now).state, view(now).reason.as_str(), view(now).healthy), ("down", "not serving", false));
    }

    #[test]
    fn found_well_again_it_begins_anew() {
        let (endpoint, now) = one();
        for n in 0..5 {
            endpoint.after(Event::Failed, "no answer", now + S / 10 * n);
        }
        endpoint.set_health(false, "no answer", now + S);
        assert!(endpoint.fitness(now + S).is_out);
        endpoint.set_health(true, "serving", now + 2 * S);
        assert!(!endpoint.fitness(now + 2 * S).is_out);
    }

    #[test]
    fn one_that_is_back_early_or_gone_makes_room_for_another_to_be_ejected() {
        let fail = |endpoint: &Shared, now| (0..5).for_each(|n| endpoint.after(Event::Failed, "", now + S / 10 * n));
        let is_ejected = |endpoint: &Shared, now| endpoint.view(0, now).state == "ejected";
        for leaves in [true, false] {
            let (all, now) = (endpoints(2, Duration::ZERO), Instant::now());
            fail(&all[0], now);
            fail(&all[1], now);
            assert!(is_ejected(&all[0], now + S) && !is_ejected(&all[1], now + S), "there is one place");
            if leaves {
                all[0].retire(S);
            } else {
                all[0].set_health(false, "no answer", now + S);
                all[0].set_health(true, "serving", now + S);
            }
            fail(&all[1], now + S);
            assert!(is_ejected(&all[1], now + 2 * S));
        }
    }

    #[test]
    fn an_answer_that_changes_nothing_is_not_looked_at() {
        let (endpoint, now) = one();
        let before = endpoint.roster.changes();
        endpoint.answered(now);
        endpoint.after(Event::Failed, "no answer", now);
        endpoint.answered(now);
        assert_eq!(endpoint.view(0, now).failures, 0);
        assert_eq!(endpoint.roster.changes(), before, "nobody has to look");
    }

    #[test]
    fn who_joins_others_is_warmed() {
        let endpoint = endpoints(1, 10 * S).remove(0);
        let now = Instant::now();
        endpoint.join(now);
        assert_eq!(endpoint.view(0, now).state, "warming");
        let share = |after| endpoint.fitness(now).share(now + after);
        assert!((share(Duration::ZERO) - 0.1).abs() < 1e-9);
        assert!((share(5 * S) - 0.5).abs() < 1e-9);
        assert_eq!(endpoint.view(0, now + 10 * S).state, "well");
    }
}
