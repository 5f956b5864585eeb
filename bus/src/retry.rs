//! When a failed delivery is tried again, and when no more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Expiries alone after which an event is dead: `crash_loop`.
pub(crate) const MAX_EXPIRIES: u32 = 3;
/// The longest delay a handler may ask for.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

/// The schedules, in seconds. After the failure that follows the last of them there is no more: `exhausted`.
const STANDARD: [u64; 8] = [1, 5, 30, 120, 600, 1800, 3600, 3 * 3600];
const PATIENT: [u64; 9] = [5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600];

/// How a group's failed deliveries are tried again, unless its handler asks for another delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// After 1 s, 5 s, 30 s, 2 m, 10 m, 30 m, 1 h, 3 h: nine attempts in five hours.
    #[default]
    Standard,
    /// After 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: ten attempts in three days, for somebody else's server, which may
    /// be away for a night.
    Patient,
}

impl Retry {
    /// How long to wait after the `failures`-th failure (1 for the first): the schedule, ±20 % by `jitter` from 0 to 1.
    /// None: no more.
    pub fn delay(self, failures: u32, jitter: f64) -> Option<Duration> {
        let schedule: &[u64] = match self {
            Self::Standard => &STANDARD,
            Self::Patient => &PATIENT,
        };
        let seconds = failures.checked_sub(1).and_then(|at| schedule.get(at as usize))?;
        Some(Duration::from_secs(*seconds).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)))
    }
}

/// [`Retry::delay`] by the standard schedule.
pub fn delay(failures: u32, jitter: f64) -> Option<Duration> {
    Retry::Standard.delay(failures, jitter)
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

    #[test]
    fn patience_ends_with_the_tenth_failure() {
        assert_eq!(Retry::Patient.delay(1, 0.5), Some(Duration::from_secs(5)));
        assert_eq!(Retry::Patient.delay(9, 0.5), Some(MAX_DELAY));
        assert_eq!(Retry::Patient.delay(10, 0.5), None);
    }
}
