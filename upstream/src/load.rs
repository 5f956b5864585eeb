//! How busy one client finds an endpoint: peak EWMA (Finagle's measure). A slow answer counts at once, its memory fades
//! over ten seconds, and every request under way multiplies the figure.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The time in which an observation's weight falls to 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint that was never measured counts for while it has requests under way, in seconds: others go first.
const UNKNOWN: f64 = 1e6;

#[derive(Debug)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    latency: Mutex<Latency>,
}

#[derive(Debug)]
struct Latency {
    seconds: f64,
    at: Instant,
}

impl Load {
    pub fn new(now: Instant) -> Self {
        Self { in_flight: AtomicUsize::new(0), latency: Mutex::new(Latency { seconds: 0.0, at: now }) }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// An answer took this long.
    pub fn observe(&self, took: Duration, now: Instant) {
        let seconds = took.as_secs_f64();
        let mut latency = self.latency.lock();
        let kept = latency.decayed(now);
        latency.seconds = if seconds > latency.seconds {
            seconds
        } else {
            let weight = latency.weight(now);
            kept + seconds * (1.0 - weight)
        };
        latency.at = now;
    }

    /// No answer came in this time: it would have taken longer still.
    pub fn observe_at_least(&self, took: Duration, now: Instant) {
        let seconds = took.as_secs_f64();
        let mut latency = self.latency.lock();
        if seconds > latency.decayed(now) {
            *latency = Latency { seconds, at: now };
        }
    }

    /// What was observed no longer holds.
    pub fn forget(&self, now: Instant) {
        *self.latency.lock() = Latency { seconds: 0.0, at: now };
    }

    /// The figure to compare endpoints by; lower is better.
    pub fn cost(&self, now: Instant) -> f64 {
        let in_flight = self.in_flight();
        let seconds = self.latency.lock().decayed(now);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests are under way")]
        let in_flight = in_flight as f64;
        if seconds == 0.0 { in_flight * UNKNOWN } else { seconds * (in_flight + 1.0) }
    }
}

impl Latency {
    fn weight(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.seconds * self.weight(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(MS, start);
        load.observe(100 * MS, start);
        assert!((load.cost(start) - 0.1).abs() < 1e-9);
        let later = start + DECAY;
        assert!((load.cost(later) - 0.1 / std::f64::consts::E).abs() < 1e-6);
        load.observe(MS, later);
        assert!(load.cost(later) > 0.001, "one fast answer doesn't wipe out the memory");
    }

    #[test]
    fn requests_under_way_multiply_the_cost() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(10 * MS, start);
        load.begin();
        load.begin();
        assert!((load.cost(start) - 0.03).abs() < 1e-9);
        load.end();
        assert!((load.cost(start) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn an_unmeasured_endpoint_is_tried_first_but_not_flooded() {
        let start = Instant::now();
        let fresh = Load::new(start);
        let known = Load::new(start);
        known.observe(100 * MS, start);
        assert!(fresh.cost(start) < known.cost(start));
        fresh.begin();
        assert!(fresh.cost(start) > known.cost(start));
    }

    #[test]
    fn silence_only_raises_the_estimate() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(10 * MS, start);
        load.observe_at_least(MS, start);
        assert!((load.cost(start) - 0.01).abs() < 1e-9);
        load.observe_at_least(1000 * MS, start);
        assert!((load.cost(start) - 1.0).abs() < 1e-9);
    }
}
