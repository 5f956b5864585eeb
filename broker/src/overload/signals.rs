//! What is measured, each as a share of what there is: 1 is all of it.

use std::time::Duration;

use bus::Bus;
use load::{descriptors, memory};

use crate::metrics;

/// So late is too late: a node that needs this long to come to a frame serves nobody.
const DELAY: Duration = Duration::from_millis(250);
/// So slow an answer of the bus is too slow.
const ROUND_TRIP: Duration = Duration::from_millis(500);
/// Bytes that wait for sockets, where memory has no limit; else a quarter of that.
const BYTES_OUT: u64 = 512 << 20;

/// Shares of what a node may use; tests put in their own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// How late it comes to what it has to do.
    pub delay: f64,
    pub memory: f64,
    pub descriptors: f64,
    /// What waits for clients to take it.
    pub bytes_out: f64,
    /// How long the bus takes to answer.
    pub round_trip: f64,
    /// Clients that read the log, of those that there may be.
    pub replay: f64,
}

impl Signals {
    /// What there is now. `delay`: the process's own; `clients`: how many there may be.
    pub(super) fn measured(bus: &Bus, delay: Option<Duration>, clients: usize) -> Self {
        let share = |used: Option<u64>, limit: Option<u64>| match (used, limit) {
            (Some(used), Some(limit)) => used as f64 / limit.max(1) as f64,
            // What isn't known is no reason.
            _ => 0.0,
        };
        let of = |time: Duration, most: Duration| time.as_secs_f64() / most.as_secs_f64();
        let most_memory = memory::limit();
        let most_out = most_memory.map_or(BYTES_OUT, |limit| limit / 4);
        // A quarter of all clients that read the log is as much as a bus is made for.
        let most_lagging = (clients as u64 / 4).max(1);
        Self {
            delay: delay.map_or(0.0, |delay| of(delay, DELAY)),
            memory: share(memory::used(), most_memory),
            descriptors: share(descriptors::used(), descriptors::limit()),
            bytes_out: share(Some(metrics::bytes_out()), Some(most_out)),
            round_trip: bus.round_trip().map_or(0.0, |time| of(time, ROUND_TRIP)),
            replay: share(Some(metrics::lagging()), Some(most_lagging)),
        }
    }

    /// The one that is nearest to its end, or furthest beyond.
    pub(super) fn worst(&self) -> (&'static str, f64) {
        let all = [
            ("delay", self.delay),
            ("memory", self.memory),
            ("descriptors", self.descriptors),
            ("bytes_out", self.bytes_out),
            ("round_trip", self.round_trip),
            ("replay", self.replay),
        ];
        all.into_iter().fold(("delay", 0.0), |worst, one| if one.1 > worst.1 { one } else { worst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_one_counts() {
        let signals = Signals { memory: 0.4, round_trip: 0.9, replay: f64::NAN, ..Signals::default() };
        assert_eq!(signals.worst(), ("round_trip", 0.9));
        assert_eq!(Signals::default().worst(), ("delay", 0.0));
    }
}
