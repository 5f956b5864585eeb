//! When to try again: full jitter, so that those who were cut off together don't come back together.

use std::time::Duration;

/// What a server may ask for, in milliseconds; then it is asked again.
const LONGEST: u64 = 3_600_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    /// Any time up to twice as much each time, and not before the server wants to see it: some time within that range, in
    /// milliseconds.
    pub(crate) fn pause(self, attempt: u32, after: Option<[u64; 2]>) -> Duration {
        let most = self.first.saturating_mul(1 << attempt.min(30)).min(self.most);
        let own = most.mul_f64(rand::random_range(0.0..1.0));
        let [least, most] = after.unwrap_or_default().map(|millis| millis.min(LONGEST));
        own.max(Duration::from_millis(rand::random_range(least..=most.max(least))))
    }
}

/// Not before this, and not all at once: what a `Retry-After` comes to.
pub(crate) fn later(wait: Duration) -> [u64; 2] {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(LONGEST);
    [millis, millis + millis / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };

    fn pauses(attempt: u32, after: Option<[u64; 2]>) -> Vec<Duration> {
        (0..200).map(|_| BACKOFF.pause(attempt, after)).collect()
    }

    #[test]
    fn the_pause_grows_to_its_bound() {
        for attempt in [0, 1, 5, 40, u32::MAX] {
            let bound = Duration::from_millis(100).saturating_mul(1 << attempt.min(20)).min(BACKOFF.most);
            assert!(pauses(attempt, None).iter().all(|pause| *pause <= bound));
        }
    }

    #[test]
    fn nobody_comes_before_the_server_wants_to_see_them_nor_all_at_once() {
        let asked = pauses(0, Some([200, 8_000]));
        assert!(asked.iter().all(|pause| (200..=8_000).contains(&pause.as_millis())), "{asked:?}");
        assert!(asked.iter().max().unwrap().abs_diff(*asked.iter().min().unwrap()) > Duration::from_secs(2));
        assert!(pauses(0, Some([500, 1])).contains(&Duration::from_millis(500)), "a range that is none");
        assert_eq!(later(Duration::from_secs(2)), [2_000, 3_000]);
    }

    #[test]
    fn whoever_is_asked_back_at_once_again_and_again_takes_longer_each_time() {
        let mean = |pauses: Vec<Duration>| pauses.iter().sum::<Duration>() / 200;
        assert!(mean(pauses(3, Some([0, 0]))) > mean(pauses(0, Some([0, 0]))) * 3);
    }

    #[test]
    fn a_server_asks_for_an_hour_at_most() {
        let most = Duration::from_millis(LONGEST + LONGEST / 2);
        for after in [[u64::MAX, u64::MAX], [0, u64::MAX], later(Duration::MAX)] {
            assert!(pauses(0, Some(after)).iter().all(|pause| *pause <= most), "{after:?}");
        }
    }
}
