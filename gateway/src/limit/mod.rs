//! Rate limits: how many requests a key may make. `window` means exactly what it says, `gcra` allows a rate with bursts.
//! State is shared by all cores and bounded; the clock is the caller's. Gateways with a Redis in common count `together`;
//! `pressure` names those who come near.

mod concurrency;
mod config;
mod gcra;
mod key;
mod owed;
mod policies;
mod pressure;
mod together;
mod window;

pub use concurrency::{Concurrency, Config as ConcurrencyConfig, Permit};
pub use config::{Config, Mode, Quota};
pub use key::{Key, Values, network};
pub use policies::{Limit, Policies, Verdict};
pub use pressure::Pressure;
pub use together::{Together, forget, remaining};

use std::{
    fmt::Write as _,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use gcra::Gcra;
use owed::Owed;
use window::Window;

/// The most keys a limit remembers; the one idle for longest goes first.
const KEYS: usize = 100_000;

/// One configured limit and its state.
pub struct Limiter {
    /// How `RateLimit` fields and metrics call it.
    pub name: Arc<str>,
    pub key: Key,
    /// Counts and reports, but refuses nobody.
    pub shadow: bool,
    /// Its item of `RateLimit-Policy`: `"principal";q=100;w=60`.
    pub policy: String,
    /// What it was made from: a reload that leaves it alone keeps its state.
    pub config: Config,
    /// Keeps its keys in Redis apart from those of other limits, and of the same one with another quota.
    place: Vec<u8>,
    meter: Meter,
    owed: Owed,
    pub pressure: Pressure,
}

enum Meter {
    Window(Window),
    Gcra(Gcra),
}

/// What a limit says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// How many more would be allowed now.
    pub remaining: u32,
    /// Until more are allowed than now.
    pub wait: Duration,
}

impl Limiter {
    /// `place` says where it stands in the configuration.
    pub fn new(place: &str, name: &str, config: &Config) -> Self {
        let (meter, quota, window) = match config.quota {
            Quota::Window { requests, per } => (Meter::Window(Window::new(requests, per, KEYS)), requests, per),
            Quota::Rate { per_second, burst } => {
                let refill = Duration::from_secs_f64(f64::from(burst.get()) / f64::from(per_second.get()));
                (Meter::Gcra(Gcra::new(per_second, burst, KEYS)), burst, refill)
            }
        };
        let mut policy = String::new();
        // Structured Fields (RFC 9651): the name is a quoted string; the configuration allows only what needs no escape.
        _ = write!(policy, "\"{name}\";q={quota};w={}", seconds(window));
        Self {
            name: name.into(),
            key: config.key.clone(),
            shadow: config.mode == Mode::Shadow,
            policy,
            config: config.clone(),
            place: format!("{place}\0{:?}\0{}\0", config.quota, config.key).into_bytes(),
            meter,
            owed: Owed::new(window, KEYS),
            pressure: Pressure::default(),
        }
    }

    /// Counts a request, if it is allowed.
    pub fn check(&self, cost: NonZeroU32, key: u128, now: Instant) -> Decision {
        match &self.meter {
            Meter::Window(window) => window.check(cost.get(), key, now),
            Meter::Gcra(gcra) => gcra.check(cost, key),
        }
    }

    /// The same for one of several gateways that can't ask each other: it has its share of the quota, at least what one
    /// request costs.
    pub fn check_share(&self, gateways: NonZeroU32, cost: NonZeroU32, key: u128, now: Instant) -> Decision {
        match (&self.meter, self.config.quota) {
            (Meter::Window(window), Quota::Window { requests, .. }) => {
                window.check_within((requests.get() / gateways).max(cost.get()), cost.get(), key, now)
            }
            (Meter::Window(window), Quota::Rate { .. }) => window.check(cost.get(), key, now),
            (Meter::Gcra(gcra), _) => gcra.check_weighing(gateways, cost, key),
        }
    }

    /// Counts what all gateways together have allowed here, against this one's share should they lose each other.
    pub fn note(&self, gateways: NonZeroU32, cost: NonZeroU32, key: u128, now: Instant) {
        match &self.meter {
            Meter::Window(window) => window.note(cost.get(), key, now),
            Meter::Gcra(gcra) => _ = gcra.check_weighing(gateways, cost, key),
        }
    }

    /// Takes back what `check` counted at `now`: another limit refused the request. Only windows can.
    pub fn give_back(&self, cost: NonZeroU32, key: u128, now: Instant) {
        if let Meter::Window(window) = &self.meter {
            window.give_back(cost.get(), key, now);
        }
    }

    /// How many are left to a key here, None if nothing is known of it.
    pub fn remaining(&self, key: u128, now: Instant) -> Option<u32> {
        match &self.meter {
            Meter::Window(window) => window.remaining(key, now),
            Meter::Gcra(gcra) => gcra.remaining(key),
        }
    }

    /// Forgets all that was counted here for a key.
    pub fn forget(&self, key: u128, now: Instant) {
        match &self.meter {
            Meter::Window(window) => window.forget(key),
            Meter::Gcra(gcra) => gcra.forget(key),
        }
        self.owed.take(key, now);
        self.pressure.forget(key);
    }

    /// The most that passes at once.
    pub fn quota(&self) -> u32 {
        match self.config.quota {
            Quota::Window { requests: most, .. } | Quota::Rate { burst: most, .. } => most.get(),
        }
    }

    /// How many keys it remembers.
    pub fn keys(&self) -> usize {
        match &self.meter {
            Meter::Window(window) => window.keys(),
            Meter::Gcra(gcra) => gcra.keys(),
        }
    }

    fn can_give_back(&self) -> bool {
        matches!(self.meter, Meter::Window(_))
    }
}

/// Whole seconds, rounded up: who waits that long has waited long enough.
pub fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
