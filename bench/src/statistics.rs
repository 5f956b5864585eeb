//! Medians and latencies.

use std::time::Duration;

/// In microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

impl Latency {
    /// # Errors
    /// If there is nothing to tell it from.
    pub fn of(mut all: Vec<Duration>) -> anyhow::Result<Self> {
        anyhow::ensure!(!all.is_empty(), "nothing was delivered");
        all.sort_unstable();
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        Ok(Self { p50: at(0.5), p99: at(0.99) })
    }
}

pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}
