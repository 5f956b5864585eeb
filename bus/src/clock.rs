//! Time, so that a test can move it.

use time::OffsetDateTime;

/// Tells the time. It may step, as system clocks do.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> OffsetDateTime;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// Milliseconds since 1970 that never go back: where the clock steps back, an offset makes up for it, so that a lease
/// doesn't outlive its time and what is recorded stays in order.
pub(crate) struct Forward {
    clock: std::sync::Arc<dyn Clock>,
    offset: i64,
    last: i64,
}

impl Forward {
    pub(crate) fn new(clock: std::sync::Arc<dyn Clock>) -> Self {
        Self { clock, offset: 0, last: i64::MIN }
    }

    /// What is recorded already doesn't lie in the future.
    pub(crate) fn not_before(&mut self, recorded: i64) {
        self.last = self.last.max(recorded);
    }

    pub(crate) fn now(&mut self) -> i64 {
        let mut now = millis(self.clock.now()) + self.offset;
        if now < self.last {
            self.offset += self.last - now;
            now = self.last;
        }
        self.last = now;
        now
    }
}

pub(crate) fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

pub(crate) fn moment(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    struct Manual(Mutex<i64>);
    impl Clock for Manual {
        fn now(&self) -> OffsetDateTime {
            moment(*self.0.lock())
        }
    }

    #[test]
    fn a_clock_that_steps_back_goes_on_from_where_it_was() {
        let manual = Arc::new(Manual(Mutex::new(10_000)));
        let mut forward = Forward::new(manual.clone());
        assert_eq!(forward.now(), 10_000);
        *manual.0.lock() = 4_000;
        assert_eq!(forward.now(), 10_000);
        *manual.0.lock() = 4_500;
        assert_eq!(forward.now(), 10_500);
    }
}
