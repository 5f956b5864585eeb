//! What time it is: by the clock that only goes forward, which ages count by, and by the one on the wall, which `Date`
//! and `Expires` mean. Always passed in, so that tests can say what time it is.

use std::time::{Duration, Instant, SystemTime};

#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub steady: Instant,
    pub wall: SystemTime,
}

impl Moment {
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// The wall's clock in seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self { steady: self.steady + duration, wall: self.wall + duration }
    }
}
