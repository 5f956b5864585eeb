//! How fast bytes pass.

use std::time::Duration;

use crate::config::Patience;

/// Ticks that a pace is judged by.
const WINDOW: usize = 4;

/// What is fast enough.
#[derive(Clone, Copy)]
pub struct Least {
    /// Time is counted in ticks of this length.
    pub tick: Duration,
    /// Bytes that must pass in as many ticks as are looked at.
    bytes: u64,
}

impl From<&Patience> for Least {
    fn from(patience: &Patience) -> Self {
        let bytes = patience.rate.0.saturating_mul(patience.over.as_secs());
        Self { tick: patience.over / WINDOW as u32, bytes }
    }
}

/// What passed in the last ticks.
#[derive(Default)]
pub struct Pace {
    passed: [u32; WINDOW],
    /// Whole ticks that are known, up to all of them.
    ticks: usize,
    /// The first tick of all has begun before.
    begun: bool,
}

impl Pace {
    pub fn pass(&mut self, bytes: u32) {
        self.passed[0] = self.passed[0].saturating_add(bytes);
    }

    /// Whether nothing has passed in this tick.
    pub fn is_still(&self) -> bool {
        self.passed[0] == 0
    }

    /// A tick is over in which bytes could have passed. Returns whether too few did in the last ticks.
    fn tick(&mut self, least: Least) -> bool {
        // What was left of the tick it began in is not a whole one.
        self.ticks = if self.begun { (self.ticks + 1).min(WINDOW) } else { 0 };
        self.begun = true;
        let passed: u64 = self.passed.iter().copied().map(u64::from).sum();
        self.passed.rotate_right(1);
        self.passed[0] = 0;
        self.ticks == WINDOW && passed < least.bytes
    }

    /// A tick is over. Where it doesn't count, because that nothing passed wasn't the client's doing, all begins anew.
    pub fn tick_if(&mut self, counts: bool, least: Least) -> bool {
        if !counts {
            *self = Self::default();
        }
        counts && self.tick(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    /// Ticks until it is called slow, of at most 20.
    fn ticks(mut bytes: impl FnMut(usize) -> u32) -> Option<usize> {
        let (mut pace, least) = (Pace::default(), Least::from(&Patience::default()));
        assert_eq!(least.tick, Duration::from_millis(2_500));
        (1..=20).find(|tick| {
            pace.pass(bytes(*tick));
            pace.tick(least)
        })
    }

    #[test]
    fn a_kibibyte_a_second_is_enough_and_less_is_not() {
        assert_eq!(ticks(|_| 2_560), None);
        assert_eq!(ticks(|_| 2_559), Some(5));
        assert_eq!(ticks(|_| 0), Some(5));
        assert_eq!(ticks(|tick| if tick % 4 == 0 { 10 << 10 } else { 0 }), None);
    }

    #[test]
    fn who_stops_is_found_within_fifteen_seconds() {
        assert_eq!(ticks(|tick| if tick <= 7 { 1 << 20 } else { 0 }), Some(11));
    }

    #[test]
    fn an_excuse_begins_anew() {
        let (mut pace, least) = (Pace::default(), Least::from(&Patience::default()));
        assert!(!(0..4).any(|_| pace.tick(least)));
        assert!(!pace.tick_if(false, least));
        assert!(!(0..4).any(|_| pace.tick(least)));
        assert!(pace.tick(least));
    }

    #[test]
    fn as_slow_as_it_likes_can_be_allowed() {
        let least = Least::from(&Patience { rate: Size(0), ..Patience::default() });
        let mut pace = Pace::default();
        assert!(!(0..20).any(|_| pace.tick(least)));
    }
}
