//! How busy one client finds an endpoint: the mean of its recent answers' latency (a peak EWMA), multiplied by the requests
//! under way. An answer that doesn't come counts at once, for as long as it was waited for, and fades.
//!
//! Two seconds of memory: long enough that chance doesn't show, short enough that an endpoint that has become slow is
//! noticed within them, and one that has recovered is too. An answer that took far longer than usual counts in part. That
//! every slow answer counted at once and fully would be quicker still, and have the endpoints of a service whose latency
//! varies share unevenly, each shunned in turn for its last bad moment.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The time in which an observation's weight falls to 1/e.
const DECAY: Duration = Duration::from_secs(2);
/// What an endpoint that was never measured counts for while it has requests under way, in seconds: others go first.
const UNKNOWN: f64 = 1e6;
/// An answer that took longer than so many usual ones counts as if it had taken as long as those.
const OUTLIER: f64 = 3.0;
/// From so many answers on, time alone says what an earlier one counts for.
const MANY: u16 = 1000;
/// What an endpoint counts for that has only failed.
const FAILING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    latency: Mutex<Latency>,
}

/// Zero seconds: never measured.
#[derive(Debug)]
struct Latency {
    seconds: f64,
    at: Instant,
    /// How many answers it is the mean of, as far as that matters.
    answers: u16,
}

impl Load {
    pub fn new(now: Instant) -> Self {
        Self { in_flight: AtomicUsize::new(0), latency: Mutex::new(Latency { seconds: 0.0, at: now, answers: 0 }) }
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
        latency.seconds = if latency.seconds == 0.0 {
            seconds
        } else {
            // The first few count alike: by chance the very first may be far off.
            let weight = latency.weight(now).min(1.0 - f64::from(latency.answers + 1).recip());
            latency.seconds * weight + seconds.min(latency.seconds * OUTLIER) * (1.0 - weight)
        };
        latency.answers = (latency.answers + 1).min(MANY);
        latency.at = now;
    }

    /// It said, after this long, that it can't: that it was quick is no merit.
    pub fn observe_failure(&self, took: Duration, now: Instant) {
        let mut latency = self.latency.lock();
        if latency.seconds == 0.0 {
            latency.seconds = FAILING.as_secs_f64();
        }
        latency.seconds = latency.seconds.max(took.as_secs_f64());
        latency.at = now;
    }

    /// No answer came in this time: it would have taken longer still.
    pub fn observe_at_least(&self, took: Duration, now: Instant) {
        let seconds = took.as_secs_f64();
        let mut latency = self.latency.lock();
        if seconds > latency.decayed(now) {
            *latency = Latency { seconds, at: now, answers: 1 };
        }
    }

    /// What was observed no longer holds.
    pub fn forget(&self, now: Instant) {
        *self.latency.lock() = Latency { seconds: 0.0, at: now, answers: 0 };
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

    fn answering(each: Duration, load: &Load, from: Instant) -> Instant {
        (1..=200).fold(from, |_, n| {
            let now = from + 10 * MS * n;
            load.observe(each, now);
            now
        })
    }

    #[test]
    fn one_slow_answer_is_soon_outweighed() {
        let start = Instant::now();
        let load = Load::new(start);
        let now = answering(MS, &load, start);
        load.observe(100 * MS, now + 10 * MS);
        assert!(load.cost(now + 10 * MS) < 0.002, "{}", load.cost(now));
    }

    #[test]
    fn many_slow_answers_show_within_two_seconds() {
        let start = Instant::now();
        let load = Load::new(start);
        let now = answering(MS, &load, start);
        let now = answering(10 * MS, &load, now);
        assert!(load.cost(now) > 0.005, "{}", load.cost(now));
        let now = answering(MS, &load, now);
        assert!(load.cost(now) < 0.004, "{}", load.cost(now));
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
    fn silence_counts_at_once_and_only_raises_the_estimate() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(10 * MS, start);
        load.observe_at_least(MS, start);
        assert!((load.cost(start) - 0.01).abs() < 1e-9);
        load.observe_at_least(1000 * MS, start);
        assert!((load.cost(start) - 1.0).abs() < 1e-9);
        let later = start + 3 * DECAY;
        assert!((load.cost(later) - (-3.0_f64).exp()).abs() < 1e-6);
    }

    #[test]
    fn to_fail_quickly_is_no_merit() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe_failure(MS, start);
        assert!((load.cost(start) - 1.0).abs() < 1e-9, "never seen to answer");
        load.forget(start);
        load.observe(10 * MS, start);
        let now = (1..100).fold(start, |now, _| {
            load.observe_failure(MS / 10, now + 100 * MS);
            now + 100 * MS
        });
        assert!((load.cost(now) - 0.01).abs() < 1e-9);
    }
}
