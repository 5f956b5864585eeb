//! The four levels, and when one is left.

use std::time::Duration;

use tokio::time::Instant;

/// How long a level is held after what took it was over.
pub(super) const HOLD: Duration = Duration::from_secs(10);
/// The shares that take each level but the first.
const SHARES: [f64; 3] = [0.70, 0.85, 0.95];

/// Each does what those before it do, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    #[default]
    Calm,
    /// Nobody in particular gets in; replay is slower; what may be dropped is refused.
    Busy,
    /// Not ready: only who comes back gets in; who is slow waits for its replay; half of the priorities are refused.
    Strained,
    /// Nobody gets in, and some are sent away; only what is critical is taken.
    Shedding,
}

/// A level that is taken at once and left late.
#[derive(Debug, Default)]
pub(super) struct Held {
    level: Level,
    /// Since when less would do, and the most that was asked for since.
    lower: Option<(Instant, Level)>,
}

impl Level {
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The lowest priority of an event that is taken.
    pub fn least_priority(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Busy => 1,
            Self::Strained => 5,
            Self::Shedding => 9,
        }
    }

    fn of(share: f64) -> Self {
        let taken = SHARES.iter().filter(|taken| share >= **taken).count();
        [Self::Calm, Self::Busy, Self::Strained, Self::Shedding][taken]
    }
}

impl Held {
    /// The level, now that so much is used.
    pub fn next(&mut self, share: f64, now: Instant) -> Level {
        let asked = Level::of(share);
        if asked >= self.level {
            (self.level, self.lower) = (asked, None);
            return self.level;
        }
        let (since, most) = self.lower.map_or((now, asked), |(since, most)| (since, most.max(asked)));
        if now.duration_since(since) >= HOLD {
            (self.level, self.lower) = (most, None);
        } else {
            self.lower = Some((since, most));
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_at_once_and_left_after_ten_seconds() {
        let (mut held, start) = (Held::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (at, share, level) in [
            (0, 0.69, Level::Calm),
            (1, 0.70, Level::Busy),
            (2, 0.96, Level::Shedding),
            (3, 0.10, Level::Shedding),
            // In between it was worse than at the end.
            (8, 0.90, Level::Shedding),
            (12, 0.10, Level::Shedding),
            (13, 0.10, Level::Strained),
            (20, 0.86, Level::Strained),
            (21, 0.0, Level::Strained),
            (31, 0.0, Level::Calm),
        ] {
            assert_eq!(held.next(share, after(at)), level, "after {at} s");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_less_than_is_asked_for(shares in proptest::collection::vec(0.0..1.3, 1..50)) {
            let (mut held, start) = (Held::default(), Instant::now());
            let mut seen: Vec<(u64, Level)> = Vec::new();
            for (at, share) in (0..).zip(shares) {
                let level = held.next(share, start + Duration::from_secs(at));
                seen.push((at, Level::of(share)));
                // Nor less than was asked for in the last ten seconds.
                let lately = seen.iter().filter(|(then, _)| at - then < HOLD.as_secs()).map(|(_, asked)| *asked);
                proptest::prop_assert!(Some(level) >= lately.max());
            }
        }
    }
}
