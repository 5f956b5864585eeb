//! How fast bytes pass.

/// Time is counted in ticks of this length.
pub const TICK: std::time::Duration = std::time::Duration::from_millis(2_500);
/// Ticks that a pace is judged by: 10 s.
const WINDOW: usize = 4;
/// Bytes that must pass within them: 1 KiB/s.
const LEAST: u32 = 10 << 10;

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

    /// A tick is over in which bytes could have passed. Returns whether fewer than 10 KiB did in the last 10 s.
    fn tick(&mut self) -> bool {
        // What was left of the tick it began in is not a whole one.
        self.ticks = if self.begun { (self.ticks + 1).min(WINDOW) } else { 0 };
        self.begun = true;
        let slow = self.ticks == WINDOW && self.passed.iter().sum::<u32>() < LEAST;
        self.passed.rotate_right(1);
        self.passed[0] = 0;
        slow
    }

    /// A tick is over. Where it doesn't count, because that nothing passed wasn't the client's doing, all begins anew.
    pub fn tick_if(&mut self, counts: bool) -> bool {
        if !counts {
            *self = Self::default();
        }
        counts && self.tick()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks until it is called slow, of at most 20.
    fn ticks(mut bytes: impl FnMut(usize) -> u32) -> Option<usize> {
        let mut pace = Pace::default();
        (1..=20).find(|tick| {
            pace.pass(bytes(*tick));
            pace.tick()
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
        let mut pace = Pace::default();
        assert!(!(0..4).any(|_| pace.tick()));
        assert!(!pace.tick_if(false));
        assert!(!(0..4).any(|_| pace.tick()));
        assert!(pace.tick());
    }
}
