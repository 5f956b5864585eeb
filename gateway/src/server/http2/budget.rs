//! How many frames of a kind may come.

use tokio::time::Instant;

use crate::config::http2;

/// So many at once, and so many a second in the long run.
pub struct Budget {
    config: http2::Budget,
    left: f64,
    at: Instant,
}

impl Budget {
    pub fn new(config: http2::Budget, now: Instant) -> Self {
        Self { config, left: f64::from(config.burst), at: now }
    }

    /// Spends one; false if there is none left.
    pub fn spend(&mut self) -> bool {
        if self.left < 1.0 {
            // Time only counts when it is needed: the clock isn't asked for each frame.
            let now = Instant::now();
            let earned = now.duration_since(self.at).as_secs_f64() * f64::from(self.config.per_second);
            self.left = (self.left + earned).min(f64::from(self.config.burst));
            self.at = now;
        }
        self.left -= 1.0;
        self.left >= 0.0
    }

    /// Adds some, up to the burst: other frames justify these.
    pub fn earn(&mut self, frames: f64) {
        self.left = (self.left + frames).min(f64::from(self.config.burst));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_at_once_then_so_many_a_second() {
        let mut budget = Budget::new(http2::Budget { per_second: 2, burst: 5 }, Instant::now());
        assert!((0..5).all(|_| budget.spend()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(budget.spend() && budget.spend() && !budget.spend());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_earned_does_not_go_beyond_the_burst() {
        let mut budget = Budget::new(http2::Budget { per_second: 1, burst: 3 }, Instant::now());
        budget.earn(100.0);
        assert!((0..3).all(|_| budget.spend()) && !budget.spend());
    }
}
