//! How often a task is tried, and how long it waits in between.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A retry policy: of a kind, or of one task. Delays are spread by ±20 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts at most, 1 to 100.
    pub attempts: u32,
    pub pace: Pace,
}

/// How long the next attempt is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The bus's: 1 s, 5 s, 30 s, 2 m, 10 m, 30 m, 1 h, 3 h, and 3 h from then on.
    Schedule,
    /// The same each time.
    Even { every: Duration },
    /// Twice as long each time.
    Doubling { first: Duration, longest: Duration },
}

impl Retry {
    /// As the bus does: nine attempts by its schedule.
    pub const SCHEDULE: Self = Self { attempts: 9, pace: Pace::Schedule };
    /// One attempt.
    pub const NEVER: Self = Self { attempts: 1, pace: Pace::Schedule };

    pub const fn even(attempts: u32, every: Duration) -> Self {
        Self { attempts, pace: Pace::Even { every } }
    }

    pub const fn doubling(attempts: u32, first: Duration, longest: Duration) -> Self {
        Self { attempts, pace: Pace::Doubling { first, longest } }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !(1..=100).contains(&self.attempts) {
            return Err(Error::Invalid(format!("retry.attempts: {} is not within 1 to 100", self.attempts)));
        }
        Ok(())
    }

    /// How long to wait after the `failed`-th attempt (1 for the first), at most 24 h; None: no more. `jitter`: 0 to 1.
    pub(crate) fn delay(&self, failed: u32, jitter: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let spread = |delay: Duration| delay.min(LONGEST).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        let delay = match self.pace {
            Pace::Schedule => return bus::retry_delay(failed.clamp(1, 8), jitter),
            Pace::Even { every } => every,
            Pace::Doubling { first, longest } => {
                first.saturating_mul(1 << failed.saturating_sub(1).min(20)).min(longest)
            }
        };
        Some(spread(delay).min(LONGEST))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::SCHEDULE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_with_its_last_attempt() {
        let doubling = Retry::doubling(4, Duration::from_secs(1), Duration::from_secs(3));
        let delays: Vec<_> = (1..=4).map(|failed| doubling.delay(failed, 0.5).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(2), Some(3), None]);
        assert_eq!(Retry::NEVER.delay(1, 0.5), None);
        assert_eq!(Retry::SCHEDULE.delay(8, 0.5), Some(Duration::from_secs(3 * 3600)));
        assert_eq!(Retry::SCHEDULE.delay(9, 0.5), None);
        assert_eq!(Retry::even(3, Duration::from_secs(10)).delay(2, 0.0), Some(Duration::from_secs(8)));
    }

    #[test]
    fn more_than_the_schedule_goes_on_at_its_last_step() {
        let patient = Retry { attempts: 20, pace: Pace::Schedule };
        assert_eq!(patient.delay(19, 0.5), Some(Duration::from_secs(3 * 3600)));
    }
}
