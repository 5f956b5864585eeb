//! What this gateway let pass by its share alone, and has yet to tell the Redis that counts for all.

use std::time::{Duration, Instant};

use crate::recent::Recent;

pub struct Owed {
    /// Requests, and when the last of them passed.
    requests: Recent<u128, (u32, Instant)>,
    /// What is older counts no more.
    window: Duration,
}

impl Owed {
    pub fn new(window: Duration, keys: usize) -> Self {
        Self { requests: Recent::new(keys), window }
    }

    pub fn owe(&self, key: u128, requests: u32, now: Instant) {
        if requests == 0 {
            return;
        }
        self.requests.with(
            key,
            || (0, now),
            |(owed, at)| {
                *owed = owed.saturating_add(requests);
                *at = now.max(*at);
            },
        );
    }

    /// What is owed for a key; nothing is from then on.
    pub fn take(&self, key: u128, now: Instant) -> u32 {
        let owed = self.requests.remove(&key);
        owed.filter(|(_, at)| now.saturating_duration_since(*at) <= self.window).map_or(0, |(owed, _)| owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_told_once_and_not_for_ever() {
        let minute = Duration::from_secs(60);
        let owed = Owed::new(minute, 100);
        let now = Instant::now();
        owed.owe(1, 2, now);
        owed.owe(1, 3, now + minute / 2);
        assert_eq!((owed.take(1, now + minute), owed.take(1, now + minute)), (5, 0));
        owed.owe(1, 2, now);
        assert_eq!((owed.take(2, now), owed.take(1, now + 2 * minute)), (0, 0));
    }
}
