//! When to try again: full jitter, so that those who were cut off together don't come back together.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    /// Any time up to twice as much each time; or within what the server asks for, in milliseconds.
    pub(crate) fn pause(self, attempt: u32, after: Option<[u64; 2]>) -> Duration {
        if let Some([least, most]) = after {
            return Duration::from_millis(rand::random_range(least..=most.max(least)));
        }
        let most = self.first.saturating_mul(1 << attempt.min(30)).min(self.most);
        most.mul_f64(rand::random_range(0.0..1.0))
    }
}

/// Not before this, and not all at once: what a `Retry-After` comes to.
pub(crate) fn later(wait: Duration) -> [u64; 2] {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
    [millis, millis + millis / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_its_bound_and_the_server_goes_over_it() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        for attempt in [0, 1, 5, 40, u32::MAX] {
            let bound = Duration::from_millis(100).saturating_mul(1 << attempt.min(20)).min(backoff.most);
            for _ in 0..100 {
                assert!(backoff.pause(attempt, None) <= bound);
            }
        }
        for _ in 0..100 {
            let pause = backoff.pause(3, Some([200, 8_000]));
            assert!((200..=8_000).contains(&pause.as_millis()), "{pause:?}");
        }
        assert_eq!(backoff.pause(0, Some([5, 1])), Duration::from_millis(5), "a range that is none");
        assert_eq!(later(Duration::from_secs(2)), [2_000, 3_000]);
    }
}
