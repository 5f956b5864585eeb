//! When a failed delivery is tried again, and when no more.

use std::time::Duration;

/// Expiries alone after which an event is dead: `crash_loop`.
pub(crate) const MAX_EXPIRIES: u32 = 3;
/// The longest delay a handler may ask for.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

/// After the ninth failure there is no more: `exhausted`. Seconds.
const SCHEDULE: [u64; 8] = [1, 5, 30, 120, 600, 1800, 3600, 3 * 3600];

/// How long to wait after the `failures`-th failure (1 for the first): the schedule, ±20 % by `jitter` from 0 to 1.
/// None: no more.
pub fn delay(failures: u32, jitter: f64) -> Option<Duration> {
    let seconds = failures.checked_sub(1).and_then(|at| SCHEDULE.get(at as usize))?;
    Some(Duration::from_secs(*seconds).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_ends_with_the_ninth_failure() {
        for failures in 1..9 {
            let middle = delay(failures, 0.5).unwrap();
            assert_eq!(delay(failures, 0.0).unwrap(), middle.mul_f64(0.8));
            assert_eq!(delay(failures, 1.0).unwrap(), middle.mul_f64(1.2));
        }
        assert_eq!(delay(1, 0.5), Some(Duration::from_secs(1)));
        assert_eq!(delay(8, 0.5), Some(Duration::from_secs(3 * 3600)));
        assert_eq!(delay(9, 0.5), None);
    }
}
