//! Too much for this process: memory that runs out (`memory`), or cores that come too late to what they have to do
//! (`delay`). Timers look; a request only reads a byte of its own core.
//!
//! | memory used | what is done |
//! |---|---|
//! | 0.85 | requests have half of their time |
//! | 0.92 | connections are closed when what is under way on them is answered |
//! | 0.95 | requests are refused: 503 |
//! | 0.98 | connections are not taken |
//!
//! A core whose delay is too long refuses requests, too. Each level is left only when use has fallen well below it, so that
//! it does not flap. The ops listener is another one, and always answers.

mod config;
mod gauges;
mod level;

pub use config::Config;
pub use gauges::{Gauges, Memory};
pub use level::Level;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use load::Delays;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::metrics::METRICS;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// How much there is too much, for the whole process.
pub struct Overload {
    cores: Box<[Arc<Core>]>,
    gauges: Gauges,
    /// What was last seen, and what came of it.
    seen: Mutex<Option<Memory>>,
    level: watch::Sender<Level>,
}

/// The same, as one core sees it.
#[derive(Default)]
pub struct Core {
    number: usize,
    /// Of memory.
    level: AtomicU8,
    /// Comes too late to what it has to do.
    late: AtomicBool,
    /// Its delay, in microseconds.
    delay: AtomicU64,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    InFlight,
    Memory,
    Delay,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Memory => "memory",
            Self::Delay => "delay",
        }
    }
}

impl Overload {
    pub fn new(cores: usize, gauges: Gauges) -> Self {
        let cores = (0..cores).map(|number| Arc::new(Core { number, ..Core::default() })).collect();
        Self { cores, gauges, seen: Mutex::new(None), level: watch::Sender::new(Level::Normal) }
    }

    /// What a core reads.
    pub fn core(&self, number: usize) -> Arc<Core> {
        self.cores.get(number).cloned().unwrap_or_default()
    }

    /// Looks at memory until told to stop. `config` is asked each time: it may change.
    pub async fn watch(&self, config: impl Fn() -> Config, stop: &CancellationToken) {
        loop {
            self.look(&config());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(EVERY) => {}
            }
        }
    }

    /// Looks at a core's delay for as long as it is polled, on that core.
    pub async fn measure(&self, core: &Core, config: impl Fn() -> Config) {
        let mut delays = Delays::default();
        loop {
            let given = self.gauges.delay.as_ref().map(|gauge| gauge(core.number));
            let Some(delay) = delays.next(given).await else { continue };
            core.delay.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Relaxed);
            METRICS.overload_delay(core.number, delay);
            let (late, most) = (core.late.load(Relaxed), config().delay);
            // Left at half of it.
            let now = most.is_some_and(|most| if late { delay > most / 2 } else { delay > most });
            if now != late {
                core.late.store(now, Relaxed);
                let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                if now {
                    tracing::warn!(
                        core = core.number,
                        delay.ms = milliseconds,
                        "a core is overloaded: it refuses requests"
                    );
                } else {
                    tracing::info!(core = core.number, delay.ms = milliseconds, "a core is no longer overloaded");
                }
            }
        }
    }

    /// Ends when connections may be taken.
    pub async fn accepting(&self) {
        if *self.level.borrow() < Level::StopAccepting {
            return;
        }
        // The sender lives as long as this does.
        _ = self.level.subscribe().wait_for(|level| *level < Level::StopAccepting).await;
    }

    fn look(&self, config: &Config) {
        let seen = self.gauges.memory(config.memory);
        let before = *self.level.borrow();
        let share = seen.as_ref().map_or(0.0, Memory::share);
        let level = before.next(share, &config.levels());
        *self.seen.lock() = seen;
        METRICS.overload(level, share);
        if level == before {
            return;
        }
        for core in &self.cores {
            core.level.store(level as u8, Relaxed);
        }
        self.level.send_replace(level);
        if level > before {
            tracing::warn!(level = level.name(), memory.share = share, "memory runs out");
        } else {
            tracing::info!(level = level.name(), memory.share = share, "there is memory again");
        }
    }

    /// For operators: how things stand, and why.
    pub fn show(&self, config: &Config) -> Value {
        let (level, memory) = (*self.level.borrow(), self.seen.lock().clone());
        let mut reasons = Vec::new();
        if let (Some(memory), true) = (&memory, level > Level::Normal) {
            reasons.push(format!(
                "{:.0} % of {} bytes of memory are used: {}",
                memory.share() * 100.0,
                memory.limit,
                level.does()
            ));
        }
        let cores = self.cores.iter().map(|core| {
            let delay = Duration::from_micros(core.delay.load(Relaxed));
            if core.late.load(Relaxed) {
                reasons.push(format!("core {} is {delay:?} late: it refuses requests", core.number));
            }
            json!({ "core": core.number, "delay_ms": delay.as_secs_f64() * 1000.0, "refuses": core.late.load(Relaxed) })
        });
        let cores = cores.collect::<Vec<_>>();
        json!({
            "level": level.name(),
            "reasons": reasons,
            "memory": memory.map(|memory| json!({
                "used": memory.used, "limit": memory.limit, "share": memory.share(), "limit_from": memory.limit_from,
            })),
            "levels": {
                "shorten_timeouts": config.shorten_timeouts, "close_connections": config.close_connections,
                "shed": config.shed, "stop_accepting": config.stop_accepting,
            },
            "delay_most_ms": config.delay.map(|most| most.as_secs_f64() * 1000.0),
            "cores": cores,
        })
    }
}

impl Core {
    /// Why requests are refused, if they are.
    pub fn sheds(&self) -> Option<Reason> {
        if self.level() >= Level::Shed {
            Some(Reason::Memory)
        } else if self.late.load(Relaxed) {
            Some(Reason::Delay)
        } else {
            None
        }
    }

    pub fn shortens_timeouts(&self) -> bool {
        self.level() >= Level::ShortenTimeouts
    }

    pub fn closes_connections(&self) -> bool {
        self.level() >= Level::CloseConnections
    }

    fn level(&self) -> Level {
        Level::from_number(self.level.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_level_is_taken_and_left_as_memory_goes() {
        let used = Arc::new(AtomicU64::new(0));
        let gauge = Arc::clone(&used);
        let gauges = Gauges::default().of_memory(move || (gauge.load(Relaxed), 1000));
        let overload = Overload::new(2, gauges);
        let core = overload.core(1);
        let at = |use_of: u64| {
            used.store(use_of, Relaxed);
            overload.look(&Config::default());
            let accepts = futures_util::FutureExt::now_or_never(overload.accepting()).is_some();
            (core.shortens_timeouts(), core.closes_connections(), core.sheds(), accepts)
        };
        assert_eq!(at(840), (false, false, None, true));
        assert_eq!(at(860), (true, false, None, true));
        assert_eq!(at(930), (true, true, None, true));
        assert_eq!(at(960), (true, true, Some(Reason::Memory), true));
        assert_eq!(at(990), (true, true, Some(Reason::Memory), false));
        assert_eq!(at(960), (true, true, Some(Reason::Memory), false), "not yet well below");
        assert_eq!(at(940), (true, true, Some(Reason::Memory), true));
        assert_eq!(at(500), (false, false, None, true));
        let shown = overload.show(&Config::default());
        assert_eq!((shown["level"].as_str(), shown["memory"]["used"].as_u64()), (Some("normal"), Some(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_that_is_late_refuses_until_it_is_in_time_again() {
        let late = Arc::new(AtomicU64::new(0));
        let gauge = Arc::clone(&late);
        let gauges = Gauges::default().of_delay(move |_| Duration::from_millis(gauge.load(Relaxed)));
        let overload = Overload::new(1, gauges);
        let core = overload.core(0);
        let after = async |milliseconds, seconds| {
            late.store(milliseconds, Relaxed);
            _ = tokio::time::timeout(Duration::from_secs(seconds), overload.measure(&core, Config::default)).await;
            core.sheds()
        };
        assert_eq!(after(200, 6).await, None);
        assert_eq!(after(300, 6).await, Some(Reason::Delay));
        assert_eq!(after(200, 6).await, Some(Reason::Delay), "not yet well below");
        assert_eq!(after(10, 6).await, None);
    }
}
