//! How a group of consumers works.

use std::time::Duration;

use gateway::action::duration;
use serde::Deserialize;

use super::Fault;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// How long an event is lent to a consumer that doesn't ask for more time; 1 s to 12 h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub lease: Duration,
    /// The longest one handling may take; then it is cancelled and tried again later. Not longer than the lease, so that
    /// a consumer cut off from the bus ends before its event is lent to another.
    #[serde(deserialize_with = "duration::deserialize")]
    pub handling: Duration,
    /// How many events are handled at once; 1 to 1,000.
    pub concurrency: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30), handling: Duration::from_secs(20), concurrency: 64 }
    }
}

impl Group {
    /// Somebody waits for what a killed process held: it is lent for less time.
    pub fn awaited() -> Self {
        Self { lease: Duration::from_secs(10), handling: Duration::from_secs(10), ..Self::default() }
    }

    /// As many at once as a database has connections for.
    pub fn storing() -> Self {
        Self { concurrency: 8, ..Self::default() }
    }

    pub fn pace(self) -> bus::Pace {
        bus::Pace { lease: self.lease, max_processing: self.handling, concurrency: self.concurrency }
    }

    pub fn faults(&self, path: &str, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, message: String| faults.push(Fault { path: format!("{path}.{field}"), message });
        if !(Duration::from_secs(1)..=Duration::from_secs(12 * 3600)).contains(&self.lease) {
            fault("lease", "must be within 1s to 12h".to_owned());
        }
        if self.handling.is_zero() {
            fault("handling", "must be longer than nothing".to_owned());
        }
        if self.lease < self.handling {
            let (lease, handling) = (self.lease, self.handling);
            fault("lease", format!("{lease:?} is shorter than the handling's {handling:?}"));
        }
        if !(1..=1_000).contains(&self.concurrency) {
            fault("concurrency", "must be within 1 to 1000".to_owned());
        }
    }
}
