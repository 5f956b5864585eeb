//! A clock that goes on by itself, and steps when told.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use bus::Clock;
use time::{Duration, OffsetDateTime};

/// Clones step together.
#[derive(Clone, Default)]
pub(crate) struct Stepping(Arc<AtomicI64>);

impl Stepping {
    pub(crate) fn step(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.whole_milliseconds()).unwrap(), Relaxed);
    }
}

impl Clock for Stepping {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::milliseconds(self.0.load(Relaxed))
    }
}
